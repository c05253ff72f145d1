"""The static look at a program's tree: is it of the language, and could it depend on hash order.

``language`` states what exists. Hygiene, not security: a program that slips through meets the kernel layers. The
verdict is the same on every machine. Runs in the confined child only.
"""

import ast
from collections.abc import Callable
from typing import Any

from bitzero.sandbox import language
from bitzero.sandbox.language import ATTRIBUTES, LOOKED_AT, MODULES, dunder, hidden

__all__ = ["MODULES", "look", "order_sensitive", "refusal", "walk"]

PYTHONS_OWN = frozenset(
    "aiter anext breakpoint compile copyright credits dir eval exec exit globals hash help id input license locals "
    "memoryview open quit vars EncodingWarning PythonFinalizationError WindowsError".split()
)
NAMING = frozenset(("NamedTuple", "namedtuple", "setattr"))  # take names of attributes as text
MAX_WORDS = 200  # characters of such a text
SETS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)


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


class _Found:
    """What one pass over the nodes collects, to be judged when all names that the program binds are known."""

    def __init__(self) -> None:
        self.read: list[str] = []  # names
        self.bound: set[str] = set()
        self.attributes: list[ast.Attribute] = []
        self.keys: list[str] = []  # attributes that a class pattern reads
        self.exempt: set[int] = set()  # ids of nodes whose two underscores are in order
        self.own: set[str] = set()  # attributes beside the names it binds
        self.texts: list[str] = []  # strings, and names of keywords
        self.any_word = False  # a class finds its attributes at run time
        self.refused: str | None = None


def refusal(nodes: list[ast.AST]) -> str | None:
    """The first thing in a program that is not of the language, or None: ``look`` without the words."""
    return look(nodes)[0]


def look(nodes: list[ast.AST]) -> tuple[str | None, set[str]]:
    """The first thing in a program that is not of the language ("import os", "attribute __class__") or None, and the
    words that it may use as attributes of its own.

    The words come from the program's own identifiers, cut to 60 characters; callers treat them as hostile text.
    """
    found = _Found()
    for node in nodes:
        kind = type(node)
        if kind is ast.Name:
            if type(node.ctx) is ast.Store:  # type: ignore[attr-defined]
                if id(node) not in found.exempt:
                    found.bound.add(node.id)  # type: ignore[attr-defined]
            elif id(node) not in found.exempt:
                found.read.append(node.id)  # type: ignore[attr-defined]
        elif kind is ast.Attribute:
            found.attributes.append(node)  # type: ignore[arg-type]
        elif kind in _LOOKS:
            _LOOKS[kind](node, found)
            if found.refused:
                break
        elif kind not in language.NODES:
            found.refused = "async" if kind.__name__.startswith(("Async", "Await")) else f"syntax {kind.__name__}"
            break
    reason = found.refused or _names(found) or _attributes(found)
    return reason[:60] if reason else None, found.own


def _names(found: _Found) -> str | None:
    for name in (*found.bound, *found.read):
        if name[:2] == "__" and dunder(name):
            return f"name {name}"
    for name in found.read:
        if name in PYTHONS_OWN and name not in found.bound:
            return f"name {name}"
    return None


def _attributes(found: _Found) -> str | None:
    own = found.own
    own |= found.bound
    for node in found.attributes:
        if type(node.ctx) is not ast.Load:
            own.add(node.attr)
    if found.any_word:
        own.update(node.attr for node in found.attributes)
    if not NAMING.isdisjoint((*own, *found.read, *(node.attr for node in found.attributes))):
        own.update(word for text in found.texts for word in text.replace(",", " ").split())
    for node in found.attributes:  # an attribute before the object it is read from
        if not _allowed(node, own, found.exempt):
            return f"attribute {node.attr}"
    for name in found.keys:
        if hidden(name) or name in LOOKED_AT or not (name in ATTRIBUTES or name in own):
            return f"attribute {name}"
    return None


def _allowed(node: ast.Attribute, own: set[str], exempt: set[int]) -> bool:
    name = node.attr
    if name in ATTRIBUTES or id(node) in exempt or (name in own and not hidden(name)):
        return True
    if type(node.ctx) is not ast.Load:
        return False
    if name == "__name__" and type(node.value) is ast.Attribute and node.value.attr == "__class__":
        exempt.add(id(node.value))
    return name in language.READABLE or (name == "__class__" and getattr(node.value, "id", "") == "self")


def _look_at_binding(node: ast.AST, found: _Found) -> None:
    for field in ("name", "arg", "rest"):
        name = getattr(node, field, None)
        if type(name) is str and id(node) not in found.exempt:
            found.bound.add(name)


def _look_at_names(node: ast.Global | ast.Nonlocal, found: _Found) -> None:
    found.bound.update(node.names)


def _look_at_import(node: ast.Import, found: _Found) -> None:
    for alias in node.names:
        if alias.name not in MODULES:
            found.refused = f"import {alias.name}"
            return
        found.bound.add(alias.asname or alias.name.partition(".")[0])


def _look_at_import_from(node: ast.ImportFrom, found: _Found) -> None:
    if node.level or node.module not in MODULES:
        found.refused = f"import {node.module}"
        return
    members = language.MEMBERS[node.module]
    for alias in node.names:
        if alias.name == "*":
            found.bound.update(members)
        elif alias.name not in members:
            found.refused = f"import {alias.name}"
            return
        else:
            found.bound.add(alias.asname or alias.name)


def _look_at_class(node: ast.ClassDef, found: _Found) -> None:
    if node.keywords:
        found.refused = "metaclass" if node.keywords[0].arg == "metaclass" else "class keyword"
        return
    found.bound.add(node.name)
    for statement in node.body:
        if type(statement) is ast.FunctionDef and statement.name in language.METHODS:
            found.any_word = found.any_word or statement.name == "__getattr__"
            found.exempt.add(id(statement))
            found.exempt.update(id(call.func) for call in ending_hashes(statement))
        elif type(statement) is ast.Assign and type(statement.targets[0]) is ast.Name:
            target = statement.targets[0]
            if target.id in language.WORD_LISTS and len(statement.targets) == 1:
                words = _words(statement.value)
                if words is None or any(hidden(word) or word in LOOKED_AT for word in words):
                    found.refused = f"name {target.id}"
                    return
                found.own.update(words)
                found.exempt.add(id(target))


def ending_hashes(method: ast.FunctionDef) -> list[ast.Call]:
    """Calls ``return hash(...)`` that end a ``__hash__``: their value is seen by sets and dicts alone."""
    if method.name != "__hash__" or method.decorator_list:
        return []
    returned = [statement.value for statement in method.body if type(statement) is ast.Return]
    return [call for call in returned if type(call) is ast.Call and getattr(call.func, "id", "") == "hash"]


def _words(node: ast.expr) -> list[str] | None:
    """The strings of a literal tuple or list of strings, or of one string; None for anything else."""
    items = node.elts if isinstance(node, ast.Tuple | ast.List) else [node]
    words = [item.value for item in items if isinstance(item, ast.Constant) and type(item.value) is str]
    return words if len(words) == len(items) else None


def _look_at_call(node: ast.Call, found: _Found) -> None:
    """``super().__x__(...)`` and ``Name.__init__(...)`` are in order."""
    called = node.func
    if type(called) is ast.Attribute and called.attr[:2] == "__":
        base = called.value
        if type(base) is ast.Call and type(base.func) is ast.Name and base.func.id == "super":
            if called.attr in language.SUPER:
                found.exempt.add(id(called))
        elif type(base) is ast.Name and called.attr == "__init__":
            found.exempt.add(id(called))


def _look_at_match(node: ast.MatchClass, found: _Found) -> None:
    found.keys += node.kwd_attrs


def _look_at_keyword(node: ast.keyword, found: _Found) -> None:
    if node.arg:
        found.texts.append(node.arg)
        if dunder(node.arg):
            found.refused = f"name {node.arg}"


def _look_at_comprehension(node: ast.comprehension, found: _Found) -> None:
    if node.is_async:
        found.refused = "async"


def _look_at_augmented(node: ast.AugAssign, found: _Found) -> None:
    """``s.format += x`` reads the attribute too, and would hand it to ``x``."""
    if type(node.target) is ast.Attribute and node.target.attr in LOOKED_AT:
        found.refused = f"attribute {node.target.attr}"


def _look_at_text(node: ast.Constant, found: _Found) -> None:
    if type(node.value) is str and len(node.value) < MAX_WORDS:
        found.texts.append(node.value)


_LOOKS: dict[type[ast.AST], Callable[[Any, _Found], None]] = {
    ast.arg: _look_at_binding,
    ast.FunctionDef: _look_at_binding,
    ast.ExceptHandler: _look_at_binding,
    ast.MatchAs: _look_at_binding,
    ast.MatchStar: _look_at_binding,
    ast.MatchMapping: _look_at_binding,
    ast.Global: _look_at_names,
    ast.Nonlocal: _look_at_names,
    ast.Import: _look_at_import,
    ast.ImportFrom: _look_at_import_from,
    ast.ClassDef: _look_at_class,
    ast.Call: _look_at_call,
    ast.MatchClass: _look_at_match,
    ast.keyword: _look_at_keyword,
    ast.comprehension: _look_at_comprehension,
    ast.AugAssign: _look_at_augmented,
    ast.Constant: _look_at_text,
}


def order_sensitive(nodes: list[ast.AST]) -> bool:
    """Whether a set may come to be: one is written or named, or an operator stands beside views of a dict.

    All other values keep an order that the program gave them. Two seeds miss the order of a two-string set in half of
    all cases, eight in less than one per cent (``verdicts``), so such programs are run on eight.
    """
    views = operations = False
    for node in nodes:
        kind = type(node)
        if kind is ast.Set or kind is ast.SetComp:
            return True
        if kind is ast.BinOp or kind is ast.AugAssign:
            operations = operations or isinstance(node.op, SETS)  # type: ignore[attr-defined]
            continue
        for name in _mentioned(node):
            if name in language.ORDERED:
                return True
            views = views or name in language.VIEWS
            operations = operations or name == "operator"
    return views and operations


def _mentioned(node: ast.AST) -> tuple[str, ...]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return (name,)
        case ast.Import(names=names):
            return tuple(alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names):
            star = language.MEMBERS.get(module or "", frozenset()) if names[0].name == "*" else ()
            return (module or "", *(alias.name for alias in names), *star)
        case ast.MatchClass(kwd_attrs=names):
            return tuple(names)
    return ()
