"""What is changed in a program's tree before it runs: idioms of files are dropped, looks at run time are put in.

The looks are calls of functions of ``namespace`` under names that no source can write.
"""

import ast

from bitzero.sandbox.language import LOOKED_AT
from bitzero.sandbox.screen import Look, walk

# The trailing space makes these globals unwritable in source, so a program can neither call nor rebind them.
LOOK_AT, KIND, OWN, HASH = "look ", "kind ", "own ", "hash "


def drop_idioms(tree: ast.Module) -> None:
    """Take ``from __future__ import annotations`` and ``if __name__ == "__main__":`` out of ``tree``, in place."""
    body: list[ast.stmt] = []
    for statement in tree.body:
        if type(statement) is ast.ImportFrom and statement.module == "__future__":
            if not statement.level and [alias.name for alias in statement.names] == ["annotations"]:
                _drop_annotations(tree)
                continue
        if type(statement) is ast.If and _is_main(statement.test):
            body += statement.orelse
            continue
        body.append(statement)
    tree.body = body


def _is_main(test: ast.expr) -> bool:
    if type(test) is not ast.Compare or len(test.ops) != 1 or type(test.ops[0]) is not ast.Eq:
        return False
    sides = {type(side): side for side in (test.left, *test.comparators)}
    name, text = sides.get(ast.Name), sides.get(ast.Constant)
    return getattr(name, "id", "") == "__name__" and getattr(text, "value", "") == "__main__"


def _drop_annotations(tree: ast.Module) -> None:
    for node in walk(tree):
        if type(node) is ast.arg:
            node.annotation = None
        elif type(node) is ast.FunctionDef:
            node.returns = None
        elif type(node) is ast.AnnAssign:
            node.annotation = ast.copy_location(ast.Constant(None), node.annotation)


def rewrite(found: Look) -> None:
    """Put the looks of ``namespace`` where a program reads ``format``, ``register``, ``__class__`` or sets attributes.

    In place, on the nodes that ``screen.look`` has found and passed.
    """
    for node in found.attributes:
        _rewrite_attribute(node)
    if "hash" not in found.bound:
        for call in found.hashes:
            call.func = ast.copy_location(ast.Name(id=HASH, ctx=ast.Load()), call.func)


def _rewrite_attribute(node: ast.Attribute) -> None:
    if type(node.ctx) is not ast.Load:
        node.value = _called(OWN, node.value)
    elif node.attr in LOOKED_AT:
        node.value = _called(LOOK_AT, node.value)
    elif node.attr == "__class__":
        node.value, node.attr = _called(KIND, node.value), "kind"


def _called(name: str, value: ast.expr) -> ast.expr:
    place = {key: getattr(value, key) for key in ("lineno", "col_offset", "end_lineno", "end_col_offset")}
    return ast.Call(func=ast.Name(id=name, ctx=ast.Load(), **place), args=[value], keywords=[], **place)
