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
ORDER_NAMES = frozenset(("set", "frozenset", "hash", "id", "object", "repr", "ascii"))
VIEWS = frozenset(("keys", "items"))


def walk(tree: ast.AST) -> list[ast.AST]:
    """All nodes of ``tree``, each before its children."""
    nodes = [tree]
    for node in nodes:  # grows while it is read
        for name in node._fields:
            field = getattr(node, name, None)
            if isinstance(field, ast.AST):
                nodes.append(field)
            elif type(field) is list:
                nodes += [item for item in field if isinstance(item, ast.AST)]
    return nodes


def refusal(nodes: list[ast.AST]) -> str | None:
    """The first thing in a program that no program may name ("import os", "attribute __class__"), or None.

    The words come from the program's own identifiers, cut to 60 characters; callers treat them as hostile text.
    """
    suspects = []
    bound = set()
    for node in nodes:
        kind = type(node)
        if kind is ast.Name:
            if type(node.ctx) is ast.Store:  # type: ignore[attr-defined]
                bound.add(node.id)  # type: ignore[attr-defined]
            elif node.id in FORBIDDEN_NAMES or node.id[:2] == "__":  # type: ignore[attr-defined]
                suspects.append(node)
        elif kind is ast.arg:
            bound.add(node.arg)  # type: ignore[attr-defined]
        elif kind is ast.FunctionDef or kind is ast.ClassDef:
            bound.add(node.name)  # type: ignore[attr-defined]
        elif kind in _SUSPECTS:
            suspects.append(node)
    found = (_refused(node, bound) for node in suspects)
    return next((reason[:60] for reason in found if reason is not None), None)


_SUSPECTS: tuple[type[ast.AST], ...] = (ast.Attribute, ast.Import, ast.ImportFrom, ast.MatchClass, ast.AsyncFunctionDef)
_SUSPECTS += (ast.Await, ast.AsyncFor, ast.AsyncWith)


def _refused(node: ast.AST, bound: set[str]) -> str | None:
    """Why ``node`` is refused. A name the program binds itself, as an argument called ``input``, is its own affair."""
    match node:
        case ast.Attribute(attr=attr):
            return f"attribute {attr}" if _hidden(attr) else None
        case ast.Name(id=name):
            return f"name {name}" if name.startswith("__") or name not in bound else None
        case ast.Import(names=names):
            return next((f"import {alias.name}" for alias in names if not _importable(alias.name)), None)
        case ast.ImportFrom(module=module, names=names, level=level):
            if level or not _importable(module or ""):
                return f"import {module}"
            return next((f"import {alias.name}" for alias in names if _hidden(alias.name)), None)
        case ast.MatchClass(kwd_attrs=attributes):
            return next((f"attribute {name}" for name in attributes if _hidden(name)), None)
    return "async"


def _importable(name: str) -> bool:
    return name in MODULES or name == "collections.abc"


def _hidden(name: str) -> bool:
    return (name.startswith("_") and name not in PROTOCOL) or name in FRAME_ATTRIBUTES


def hidden_attribute(name: object) -> bool:
    """Whether ``getattr(x, name)`` is refused at run time: the same rule as for a written attribute."""
    return type(name) is not str or _hidden(name)


def order_sensitive(nodes: list[ast.AST]) -> bool:
    """Whether hash order or addresses may matter: sets, ``hash``, ``id``, ``repr``, set operations beside dict views.

    Two seeds miss the order of a two-string set in half of all cases, eight in less than one per cent
    (``verdicts``), so such programs are run on eight.
    """
    views = operations = False
    for node in nodes:
        match node:
            case ast.Name(id=name) if name in ORDER_NAMES:
                return True
            case ast.Set() | ast.SetComp():
                return True
            case ast.Attribute(attr=name) if name in VIEWS:
                views = True
            case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                operations = True
    return views and operations
