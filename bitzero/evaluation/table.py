"""The held-out table: a row for each level and kind, with what needs no learning beside it.

Every figure is an answer decoded freely and judged by the sandbox. Beside it stand the best trivial rule, the shuffled
control (the model sees another task's program), pass@k, and the same items before self-play.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool

from bitzero.config import Config
from bitzero.evaluation import questions
from bitzero.evaluation.questions import Heldout, Solver
from bitzero.evaluation.statistics import paired_gain, wilson
from bitzero.sandbox import Sandbox
from bitzero.selfplay.skeletons import never_trained_on
from bitzero.tasks.kinds import TASK_KINDS, Kinds, Task, TaskKind, split_args
from bitzero.tasks.levels import NUM_LEVELS

Correct = Bool[np.ndarray, " n"]  # which items were answered right
RULE_ITEMS = 100  # training programs on which the best trivial rule is chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """The questions of one row."""

    level: int
    kind: TaskKind
    tasks: list[Task]  # the first draws of the generator
    training: list[Task]  # for choosing the trivial rule
    further: list[Task] = dataclasses.field(default_factory=list)  # draws after them, up to as many different programs
    firsts: list[int] = dataclasses.field(default_factory=list)  # of tasks and further, those of a new program
    skeletons: list[int] = dataclasses.field(default_factory=list)  # of the program of each of tasks and further
    open: bool = True  # the level was trained on; pass@k is not asked of the others


AnsweredGroup = tuple[Group, dict[str, Any], Correct, Correct | None]  # with its row, right now, right before self-play


def items_by_level(cfg: Config, open_levels: int) -> dict[int, int]:
    """Level → test programs asked about; fewer of the levels that training has not opened."""
    wanted = {level: cfg.eval.items if level < open_levels else cfg.eval.locked_items for level in range(NUM_LEVELS)}
    return {level: n for level, n in wanted.items() if n}


def table_questions(heldout: Heldout, cfg: Config, open_levels: int, kinds: Kinds = TASK_KINDS) -> list[Group]:
    """The fixed held-out set: for each level and kind the first n draws, and more until n different programs came.

    ``heldout`` gives draws (``Stream.heldout_draws``): a program that comes again comes with another input.
    """
    groups = []
    for level, n in items_by_level(cfg, open_levels).items():
        test, training = heldout(cfg.eval.split, level, n), heldout("train", level, min(n, RULE_ITEMS))
        places = {program.hash: place for place, program in reversed(list(enumerate(test)))}
        for kind in kinds:
            tasks = [kind.task_of_program(program, cfg) for program in test]
            rule_tasks = [kind.task_of_program(program, cfg) for program in training]
            group = Group(
                level=level, kind=kind, tasks=tasks[:n], training=rule_tasks, further=tasks[n:],
                firsts=sorted(places.values()), skeletons=[program.skeleton for program in test],
                open=level < open_levels,
            )  # fmt: skip
            groups.append(group)
    return groups


def measure_row(
    group: Group, now: Solver, before: Solver | None, sandbox: Sandbox
) -> tuple[dict[str, Any], Correct, Correct | None]:
    """One row of the table, and which items were right now and before self-play (None without such a checkpoint)."""
    cfg, tasks = now.cfg, group.tasks
    every = [*tasks, *group.further]
    answered = questions.correct_answers(sandbox, every, questions.ask(now, every), now.kinds)[:, 0]
    greedy = answered[: len(tasks)]
    earlier = (
        questions.correct_answers(sandbox, tasks, questions.ask(before, tasks), now.kinds)[:, 0] if before else None
    )
    low, high = wilson(int(greedy.sum()), len(tasks))
    row: dict[str, Any] = {
        "level": group.level,
        "kind": group.kind.name,
        "mode": "trace" if now.trace and group.kind.traced else "direct",
        "n": len(tasks),
        "cut": too_long_to_ask(tasks, now),
        "accuracy": share_correct(greedy),
        "ci_low": round(low, 4),
        "ci_high": round(high, 4),
        **trivial_row(group, sandbox, now.kinds),
        "shuffled": share_correct(shuffled_control(tasks[: cfg.eval.shuffled_items], now, sandbox)),
        "before_selfplay": None if earlier is None else share_correct(earlier),
        "different": share_correct(answered[group.firsts]),
    }
    some = tasks[: cfg.eval.passk_items]
    if some and group.open:
        drawn = questions.ask(now, some, samples=cfg.eval.passk, temperature=cfg.selfplay.temperature, seed=1)
        right = questions.correct_answers(sandbox, some, drawn, now.kinds)
        row[f"pass@{cfg.eval.passk}"] = share_correct(np.asarray(right.any(axis=1)))
        row[f"majority@{cfg.eval.passk}"] = share_correct(majority_right(drawn, right))
    return row, greedy, earlier


def too_long_to_ask(tasks: Sequence[Task], solver: Solver) -> int:
    """How many of the tasks do not fit a prompt; they count as wrong."""
    prompts = (solver.kinds[task.kind].solver_prompt(task, solver.trace) for task in tasks)
    return sum(len(prompt) > solver.cfg.tasks.prompt for prompt in prompts)


def unseen_row(group: Group, right: Correct, trained_on: Bool[Array, " places"]) -> dict[str, Any]:
    """Accuracy on the items whose program, without its constants, is like none that was trained on; and how many."""
    unseen = np.array(never_trained_on(trained_on, group.skeletons[: len(right)]), bool)
    return {"unseen": share_correct(right[unseen]), "unseen_n": int(unseen.sum())}


def majority_right(drawn: Sequence[Sequence[str | None]], right: Bool[np.ndarray, "n s"]) -> Correct:
    """Whether the text most often drawn for each item is right; the first of equals, malformed answers never."""
    found = []
    for texts, hits in zip(drawn, right, strict=True):
        votes = Counter(text for text in texts if text is not None)
        chosen = votes.most_common(1)[0][0] if votes else None
        found.append(chosen is not None and bool(hits[list(texts).index(chosen)]))
    return np.array(found, dtype=bool)


def trivial_row(group: Group, sandbox: Sandbox, kinds: Kinds = TASK_KINDS) -> dict[str, Any]:
    """Accuracy on the test items of the one trivial rule that is best on training programs, and the rule's name."""
    rules = group.kind.trivial_rules()
    answers = [group.kind.trivial_answers(task)[: len(rules)] for task in group.training]
    best = int(np.argmax(questions.correct_answers(sandbox, group.training, answers, kinds).mean(axis=0)))
    answered = [[group.kind.trivial_answers(task)[best]] for task in group.tasks]
    return {
        "trivial": share_correct(questions.correct_answers(sandbox, group.tasks, answered, kinds)),
        "trivial_rule": rules[best],
    }


def shuffled_control(tasks: Sequence[Task], solver: Solver, sandbox: Sandbox) -> Correct:
    """Right answers when each prompt shows another task's program (induction: its pairs) but is judged as its own.

    What a model gets right here it gets without reading the program.
    """
    if not tasks:
        return np.zeros(0, bool)
    shown = [solver.kinds[task.kind].disguised(task, another_program(tasks, i)) for i, task in enumerate(tasks)]
    return questions.correct_answers(sandbox, tasks, questions.ask(solver, shown), solver.kinds)[:, 0]


def another_program(tasks: Sequence[Task], i: int) -> Task:
    """The next task after ``i`` with another program and, if there is one, as many arguments."""
    others = [tasks[(i + step) % len(tasks)] for step in range(1, len(tasks))]
    others = [task for task in others if task.code != tasks[i].code] or [tasks[i]]
    arity = _arity(tasks[i])
    return next((task for task in others if _arity(task) == arity), others[0])


def gains_of_selfplay(answered: Sequence[AnsweredGroup]) -> dict[str, Any]:
    """By kind, what the items gained since before self-play; kinds without an earlier model are left out."""
    found = {}
    for kind in dict.fromkeys(group.kind.name for group, *_ in answered):
        pairs = [(then, after) for group, _, after, then in answered if group.kind.name == kind and then is not None]
        if pairs:
            then, after = (np.concatenate(side) for side in zip(*pairs, strict=True))
            gain, low, high = paired_gain(then, after)
            found[kind] = {"gain": round(gain, 4), "ci_low": round(low, 4), "ci_high": round(high, 4), "n": len(after)}
    return found


def digits_by_item(answered: Sequence[AnsweredGroup]) -> dict[str, dict[str, str]]:
    """By row, a digit for each item in its fixed order (1: right), for paired comparisons between runs."""
    rows = {}
    for group, _, after, then in answered:
        sides = {"right": after} | ({} if then is None else {"before_selfplay": then})
        digits = {name: "".join("1" if hit else "0" for hit in side) for name, side in sides.items()}
        rows[f"L{group.level} {group.kind.name}"] = digits
    return rows


def share_correct(right: Bool[np.ndarray, "..."]) -> float | None:
    """Share of True, to four places; None of nothing."""
    return round(float(right.mean()), 4) if right.size else None


def _arity(task: Task) -> int:
    return len(split_args(task.inputs[0]) or ())
