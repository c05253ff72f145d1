"""A sandbox for untrusted Python functions: typed outcomes, canonical values, standard library only.

>>> from bitzero.sandbox import Job, Sandbox
>>> with Sandbox() as box:
...     [[outcome]] = box.validate([Job(id=0, code="def f(a): return sorted(a)", inputs=("[3, 1, 2]",))])
>>> outcome.kind, outcome.value
('ok', '[1, 2, 3]')

One warm process per hash seed forks a child that reads texts, and one more for every input of a program, or for all
inputs of programs that can leave nothing behind (``purity``); each is closed in by the kernel (system-call filter,
resource limits, where the machine offers them namespaces with an empty root and Landlock) before it looks at anything.
"""

from bitzero.sandbox.client import Sandbox
from bitzero.sandbox.jobs import KINDS, Job, Limits, Outcome, Parsed, SandboxUnavailable, literal_job, same
from bitzero.sandbox.values import loosely_equal

__all__ = [
    "KINDS",
    "Job",
    "Limits",
    "Outcome",
    "Parsed",
    "Sandbox",
    "SandboxUnavailable",
    "literal_job",
    "loosely_equal",
    "same",
]
