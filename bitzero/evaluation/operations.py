"""Where a model fails: its answers and the first wrong items of its traces, by the operations of the programs.

Programs here are the generator's own; nothing that a model wrote is parsed as Python, its traces are compared as text.
"""

import ast
import builtins
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from bitzero.evaluation.questions import Solver, complete_prompts
from bitzero.generator.programs import Program
from bitzero.tasks import traces
from bitzero.tasks.kinds import DEDUCTION
from bitzero.tasks.kinds.task import before_end
from bitzero.tasks.tokens import ANS, decode

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.BitOr: "|",
    ast.BitXor: "^", ast.BitAnd: "&", ast.LShift: "<<", ast.RShift: ">>", ast.USub: "-x", ast.UAdd: "+x",
    ast.Invert: "~", ast.Not: "not", ast.And: "and", ast.Or: "or", ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<",
    ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not",
}  # fmt: skip
_OTHERS: dict[type[ast.AST], str] = {
    ast.IfExp: "if else", ast.JoinedStr: "f-string", ast.ListComp: "comprehension", ast.SetComp: "comprehension",
    ast.DictComp: "comprehension", ast.GeneratorExp: "comprehension", ast.List: "[…]", ast.Tuple: "(…)",
    ast.Dict: "{…}", ast.Set: "{…}", ast.Lambda: "lambda",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """The operations of one statement, the outermost last; its block's statements are lines of their own."""

    operations: tuple[str, ...]
    returns: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How one answer went: its steps up to the first wrong one."""

    steps: list[tuple[tuple[str, ...], bool]]  # operations of each, and whether it was right
    right: bool  # the answer's text


def measure_operations(solver: Solver, asked: Sequence[Program], training: Sequence[Program]) -> list[dict[str, Any]]:
    """A row for each operation that a program of ``asked`` holds, the worst first.

    Every program whose prompt fits is asked once, with a trace, greedily. The columns:

    programs: how many of them hold the operation
    right: share of these whose answer's text is right
    items: steps (trace items, answers) with it that no wrong step came before
    items_right: how many of these are right
    first_wrong: how many are wrong, so that the answer goes wrong there
    seen: share of the ``training`` programs, a sample, that hold it
    """
    kind = solver.kinds[DEDUCTION]
    prompts = [kind.solver_prompt(kind.task_of_program(program, solver.cfg), trace=True) for program in asked]
    fits = [i for i, prompt in enumerate(prompts) if len(prompt) <= solver.cfg.tasks.prompt]
    longest = kind.longest_answer(solver.cfg, trace=True)
    drawn = complete_prompts(solver, [prompts[i] for i in fits], max_new=longest, temperature=0.0, seed=0)
    readings = [(asked[i], read_answer(asked[i], ids)) for i, ids in zip(fits, drawn, strict=True)]
    return rows_of(readings, training)


def rows_of(readings: Sequence[tuple[Program, Reading]], training: Sequence[Program]) -> list[dict[str, Any]]:
    """The rows of ``measure_operations``."""
    held, right, items, kept = (Counter[str]() for _ in range(4))
    for program, reading in readings:
        operations = set(operations_of(program.code))
        held.update(operations)
        right.update(operations if reading.right else ())
        for names, holds in reading.steps:
            items.update(set(names))
            kept.update(set(names) if holds else ())
    seen = Counter(name for program in training for name in set(operations_of(program.code)))
    rows = [
        {
            "operation": name, "programs": n, "right": round(right[name] / n, 4), "items": items[name],
            "items_right": kept[name], "first_wrong": items[name] - kept[name],
            "seen": round(seen[name] / len(training), 4) if training else None,
        }
        for name, n in held.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row["right"], -row["programs"], row["operation"]))


def read_answer(program: Program, completion: Sequence[int]) -> Reading:
    """How a completion compares with the trace and the value of the program's first pair."""
    ids = before_end(completion) or []
    cut = ids.index(ANS) if ANS in ids else len(ids)
    said, answer = _items(decode(ids[:cut])), decode(ids[cut + 1 :])
    lines = lines_of(program.code)
    gold = traces.items_of(program.traces[0])
    steps = []
    for place, item in enumerate(gold):
        holds = place < len(said) and said[place] == item
        steps.append((_operations_at(lines, item), holds))
        if not holds:
            return Reading(steps=steps, right=answer == program.outputs[0])
    holds = len(said) == len(gold) and answer == program.outputs[0]
    returned = [line.operations for line in lines.values() if line.returns]
    steps.append(((returned[-1][-1:] if returned else ()) or ("copy",), holds))
    return Reading(steps=steps, right=answer == program.outputs[0])


def _items(trace: str) -> list[str]:
    """The items of a trace that a model wrote; none where its quotes are open."""
    try:
        return traces.items_of(trace)
    except ValueError:
        return []


def _operations_at(lines: dict[int, Line], item: str) -> tuple[str, ...]:
    """Those of the statement that an item tells of; of a return, all but the outermost, which gives the answer."""
    line = traces.line_of(item)
    if line is not None:
        return (lines[line].operations if line in lines else ()) or ("copy",)
    inner = [name for found in lines.values() if found.returns for name in found.operations[:-1]]
    return tuple(inner) or ("copy",)


def operations_of(code: str) -> list[str]:
    """Names of the operations of a program, once for each time it holds one."""
    return [name for line in lines_of(code).values() for name in line.operations]


def lines_of(code: str) -> dict[int, Line]:
    """The statements of a program by line, from 0 as traces count."""
    found = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef):
            names = (*_statement_name(node), *(name for part in _expressions(node) for name in _names(part)))
            found[node.lineno - 1] = Line(operations=tuple(names), returns=isinstance(node, ast.Return))
    return dict(sorted(found.items()))


def _statement_name(node: ast.stmt) -> tuple[str, ...]:
    match node:
        case ast.AugAssign(op=op):
            return (f"{_OPERATORS[type(op)]}=",)
        case ast.If() | ast.While() | ast.For():
            return (type(node).__name__.lower(),)
        case ast.Assign(targets=[ast.Subscript(), *_]):
            return ("[i] =",)
    return ()


def _expressions(node: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement itself, without those of its block."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child


def _names(node: ast.AST) -> Iterator[str]:
    """Names of the operations of an expression, in the order of evaluation: operands before what they go into."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func):
            yield from _names(child)
        elif isinstance(child, ast.Attribute):
            yield from _names(child.value)
    if isinstance(getattr(node, "ctx", None), ast.Store) or isinstance(node, ast.Slice):
        return
    match node:
        case ast.BinOp(op=op) | ast.UnaryOp(op=op) | ast.BoolOp(op=op):
            if not isinstance(node, ast.UnaryOp) or not isinstance(node.operand, ast.Constant):  # -3 is a constant
                yield _OPERATORS[type(op)]
        case ast.Compare(ops=ops):
            yield from (_OPERATORS[type(op)] for op in ops)
        case ast.Call(func=ast.Name(id=name)):
            yield name if hasattr(builtins, name) else "helper()"
        case ast.Call(func=ast.Attribute(attr=name)):
            yield f".{name}"
        case ast.Subscript(slice=index):
            yield _slice_name(index)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            if any(not isinstance(part, ast.Constant) for part in parts):
                yield _OTHERS[type(node)]
        case _ if type(node) in _OTHERS:
            yield _OTHERS[type(node)]


def _slice_name(index: ast.expr) -> str:
    if not isinstance(index, ast.Slice):
        return "[i]"
    if index.step is not None:
        reverses = isinstance(index.step, ast.UnaryOp) and index.lower is index.upper is None
        return "[::-1]" if reverses else "[::k]"
    return f"[{'i' if index.lower else ''}:{'j' if index.lower and index.upper else 'i' if index.upper else ''}]"
