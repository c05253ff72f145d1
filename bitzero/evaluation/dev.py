"""How many dev questions a model answers rightly: deductions of a level, for the curriculum; by kind, for self-play."""

from bitzero.evaluation import questions
from bitzero.evaluation.questions import Heldout, Solver
from bitzero.sandbox import Sandbox
from bitzero.tasks.kinds import DEDUCTION


def deduction_accuracy(solver: Solver, level: int, items: int, heldout: Heldout, sandbox: Sandbox) -> float:
    """Share of so many of the level's dev deductions answered right, decoding freely and greedily."""
    programs = heldout("dev", level, items)[:items]
    tasks = [solver.kinds[DEDUCTION].task_of_program(program, solver.cfg) for program in programs]
    return float(questions.correct_answers(sandbox, tasks, questions.ask(solver, tasks)).mean())


def accuracy_by_kind(solver: Solver, open_levels: int, heldout: Heldout, sandbox: Sandbox) -> dict[str, float]:
    """Kind → share of ``selfplay.dev_items`` dev questions, the open levels evenly, answered right."""
    items = -(-solver.cfg.selfplay.dev_items // open_levels)
    programs = [made for level in range(open_levels) for made in heldout("dev", level, items)[:items]]
    found = {}
    for kind in solver.kinds:
        tasks = [kind.task_of_program(program, solver.cfg) for program in programs]
        right = questions.correct_answers(sandbox, tasks, questions.ask(solver, tasks), solver.kinds)
        found[kind.name] = float(right.mean())
    return found
