"""Answers that need no thought: the values that the kinds' trivial rules are made of.

The rules themselves belong to the kinds (``kinds/*.py``: ``trivial_rules``, ``trivial_answers``, ``is_trivial``).
"""

CONSTANTS = ("''", "0", "1", "True", "False", "[]")  # tried as an output, and as every argument at once
FILLS = ("''", "0")  # of the arguments beside one that is guessed
RULED_ARGS = 3  # argument places that have a named rule; the generator's programs have one to three arguments
