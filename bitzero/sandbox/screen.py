"""The static look at a program's tree: what may be named, and whether it could depend on hash order.

Hygiene, not security: a program that slips through meets the kernel layers. It refuses early what a pure function never
needs, so that the verdict is the same on every machine. Runs in the confined child only.
"""

import ast

MODULES = ("bisect", "collections", "functools", "heapq", "itertools", "math", "operator", "re", "string")
FORBIDDEN_NAMES = frozenset(
    "breakpoint compile copyright credits delattr dir eval exec exit globals help input license locals memoryview "
    "open quit setattr vars".split()
)
FRAME_ATTRIBUTES = frozenset(
    "ag_await ag_code ag_frame cr_await cr_code cr_frame cr_origin f_back f_builtins f_code f_globals f_lasti f_lineno "
    "f_locals f_trace func_code func_globals gi_code gi_frame gi_yieldfrom mro tb_frame tb_lasti tb_lineno tb_next "
    "with_traceback".split()
)
PROTOCOL = frozenset(
    f"__{name}__"
    for name in (
        "abs add and bool call contains delitem divmod doc enter eq exit float floordiv format ge getitem gt hash "
        "iadd iand imul index init int invert ior isub iter le len lshift lt matmul missing mod mul name ne neg new "
        "next or pos post_init pow qualname radd rand repr reversed rmul ror round rshift rsub rxor setitem slots str "
        "sub truediv xor"
    ).split()
)
ORDER_NAMES = frozenset(("set", "frozenset", "hash", "id", "object"))
VIEWS = frozenset(("keys", "items"))


def refusal(tree: ast.AST) -> str | None:
    """The first thing in ``tree`` that no program may name ("import os", "attribute __class__"), or None.

    The words come from the program's own identifiers, cut to 40 characters; callers treat them as hostile text.
    """
    bound = _bound(tree)
    for node in ast.walk(tree):
        found = _refused(node, bound)
        if found is not None:
            return found[:60]
    return None


def _bound(tree: ast.AST) -> set[str]:
    """Names the program binds itself: an argument called ``input`` is no call of the built-in."""
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
    return bound


def _refused(node: ast.AST, bound: set[str]) -> str | None:
    if isinstance(node, ast.Import):
        return next((f"import {alias.name}" for alias in node.names if not _importable(alias.name)), None)
    if isinstance(node, ast.ImportFrom):
        if node.level or not _importable(node.module or ""):
            return f"import {node.module}"
        return next((f"import {alias.name}" for alias in node.names if _hidden(alias.name)), None)
    if isinstance(node, ast.Attribute) and _hidden(node.attr):
        return f"attribute {node.attr}"
    if isinstance(node, ast.Name):
        if node.id.startswith("__") or (node.id in FORBIDDEN_NAMES and node.id not in bound):
            return f"name {node.id}"
    if isinstance(node, ast.MatchClass):
        return next((f"attribute {name}" for name in node.kwd_attrs if _hidden(name)), None)
    if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
        return "async"
    return None


def _importable(name: str) -> bool:
    return name in MODULES or name == "collections.abc"


def _hidden(name: str) -> bool:
    return (name.startswith("_") and name not in PROTOCOL) or name in FRAME_ATTRIBUTES


def hidden_attribute(name: object) -> bool:
    """Whether ``getattr(x, name)`` is refused at run time: the same rule as for a written attribute."""
    return type(name) is not str or _hidden(name)


def order_sensitive(tree: ast.AST) -> bool:
    """Whether the program mentions sets, ``hash``, ``id`` or a set operation on a dict view.

    Two seeds miss the order of a two-string set in 39 % of cases, eight seeds in 0.5 % (measured), so such
    programs are run on eight.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.Name) and node.id in ORDER_NAMES:
            return True
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
            if _is_view(node.left) or _is_view(node.right):
                return True
    return False


def _is_view(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VIEWS
