"""A lesson: one function that a person asked about, with the pairs that the sandbox told, as training takes it."""

from dataclasses import dataclass

from bitzero.config import Config
from bitzero.tasks.kinds import TASK_KINDS, Kinds, Task


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A ``LabelledProgram`` of a person's own; its texts are canonical."""

    kind: int  # number of the kind of question that was asked
    code: str
    inputs: tuple[str, ...]  # those that were asked first, then others of the same types
    outputs: tuple[str, ...]
    traces: tuple[str, ...]  # '' where nothing is to be told
    behaviour: int  # what the function does (``behaviour.behaviour_hash``): the same for another spelling of it
    level: int = 0  # of a person's function nobody measures it


def tasks_of(lesson: Lesson, cfg: Config, kinds: Kinds = TASK_KINDS) -> list[Task]:
    """The questions of a lesson: one a pair, or one of all pairs where the kind takes several."""
    kind = kinds[lesson.kind]
    _, most = kind.pairs_wanted(cfg)
    pairs = list(zip(lesson.inputs, lesson.outputs, strict=True))
    groups = [[pair] for pair in pairs] if most == 1 else [pairs[:most]]
    return [
        kind.task_of_pairs(0, lesson.code, tuple(i for i, _ in group), tuple(o for _, o in group), cfg)
        for group in groups
    ]
