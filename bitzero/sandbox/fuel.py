"""Fuel: a tick at every loop body, function, lambda and comprehension item, written into the program's tree.

Counting work instead of time makes a ``timeout`` the same on every machine and under any load. Work inside C (``sum``
of an endless iterator, a regular expression, a huge power) has no ticks; the processor-time limit ends that.
"""

import ast

TICK = "tick "  # the trailing space makes it unwritable in source, so a program can neither call nor rebind it


def instrument(nodes: list[ast.AST]) -> None:
    """Insert ticks into the tree with these ``nodes``. The global ``TICK`` must be a function that returns True."""
    for node in nodes:
        kind = type(node)
        if kind is ast.For or kind is ast.While or kind is ast.FunctionDef:
            body = node.body  # type: ignore[attr-defined]
            body.insert(int(kind is ast.FunctionDef and _documented(body)), _statement(body[0]))
        elif kind is ast.Lambda:
            value = node.body  # type: ignore[attr-defined]
            node.body = ast.BoolOp(op=ast.And(), values=[_call(value), value], **_place(value))  # type: ignore[attr-defined]
        elif kind is ast.comprehension:
            node.ifs.insert(0, _call(node.iter))  # type: ignore[attr-defined]


def _documented(body: list[ast.stmt]) -> bool:
    """Whether a body begins with a docstring, which has to stay its first statement."""
    first = body[0]
    return type(first) is ast.Expr and type(first.value) is ast.Constant and type(first.value.value) is str


def _place(at: ast.AST) -> dict[str, int]:
    return {name: getattr(at, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}


def _call(at: ast.AST) -> ast.Call:
    place = _place(at)
    return ast.Call(func=ast.Name(id=TICK, ctx=ast.Load(), **place), args=[], keywords=[], **place)


def _statement(at: ast.AST) -> ast.Expr:
    return ast.Expr(value=_call(at), **_place(at))
