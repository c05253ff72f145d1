"""Argument lists and values from text, as literals only: no names, calls, operators or starred items.

Runs in the confined child: ``ast.parse`` of hostile text can exhaust memory or crash the interpreter.
"""

import ast
from typing import Any

_ATOMS = (bool, int, float, str, bytes, type(None))
_NAMES = ("nan", "inf")  # so that every canonical text reads back


def arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of ``"1, 'b', k=[2.5]"``, newly made at every call.

    Raises ``SyntaxError`` where the text is not one argument list, ``ValueError`` where an argument is no literal.
    """
    tree = ast.parse(f"f({text}\n)", mode="eval").body
    if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)):
        raise SyntaxError("not one argument list")  # "1) or (1", "1)(2": the text closed the bracket itself
    names = [keyword.arg for keyword in tree.keywords]
    if None in names or len(set(names)) != len(names):
        raise SyntaxError("doubled keyword or **")
    keywords = {str(keyword.arg): value(keyword.value) for keyword in tree.keywords}
    return [value(node) for node in tree.args], keywords


def single(text: str) -> Any:
    """The value of exactly one literal. Raises like ``arguments``; a bare ``1, 2`` or ``x=1`` is a ``SyntaxError``."""
    positional, keywords = arguments(text)
    if len(positional) != 1 or keywords:
        raise SyntaxError("not exactly one literal")
    return positional[0]


def value(node: ast.AST) -> Any:
    """The object a literal node stands for. Raises ``ValueError`` for anything else."""
    if isinstance(node, ast.Constant) and type(node.value) in _ATOMS:
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = value(node.operand)
        if type(number) in (int, float) and not isinstance(node.operand, ast.UnaryOp):
            return -number
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return float(node.id)  # a new nan each: a set may hold several
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "set":
        if not node.args and not node.keywords:
            return set()
    return _container(node)


def _container(node: ast.AST) -> Any:
    try:
        if isinstance(node, ast.List):
            return [value(item) for item in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple([value(item) for item in node.elts])
        if isinstance(node, ast.Set):
            return {value(item) for item in node.elts}
        if isinstance(node, ast.Dict) and None not in node.keys:
            return {value(key): value(item) for key, item in zip(node.keys, node.values, strict=True) if key}
    except TypeError as error:
        raise ValueError("unhashable element") from error
    raise ValueError("not a literal")
