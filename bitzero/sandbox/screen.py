"""The static look at a program's tree: is it of the language, and could it depend on hash order.

``language`` states what exists. Hygiene, not security: a program that slips through meets the kernel layers. The
verdict is the same on every machine. Runs in the confined child only.
"""

import ast
from collections.abc import Callable
from typing import Any

from bitzero.sandbox import language
from bitzero.sandbox.language import ATTRIBUTES, LOOKED_AT, MODULES, dunder, hidden

__all__ = ["MODULES", "Look", "look", "refusal", "walk"]

PYTHONS_OWN = frozenset(
    "aiter anext breakpoint compile copyright credits dir eval exec exit globals hash help id input license locals "
    "memoryview open quit vars EncodingWarning PythonFinalizationError WindowsError".split()
)
NAMING = frozenset(("NamedTuple", "namedtuple", "setattr"))  # take names of attributes as text
MAX_WORDS = 200  # characters of such a text


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


class Look:
    """What one pass over the nodes collects, judged when all names that the program binds are known."""

    def __init__(self) -> None:
        self.refusal: str | None = None  # what is not of the language: "import os", "attribute __dict__"
        self.ordered = False  # a set may come to be, so hash order may matter
        self.words: set[str] = set()  # attributes of the program's own
        self.read: list[str] = []
        self.imported: list[str] = []  # modules, and members by their own names
        self.bound: set[str] = set()
        self.attributes: list[ast.Attribute] = []
        self.keys: list[str] = []  # attributes that a class pattern reads
        self.exempt: set[int] = set()  # ids of nodes whose two underscores are in order
        self.texts: list[str] = []  # strings, and names of keywords
        self.hashes: list[ast.Call] = []  # that end a ``__hash__``
        self.supers = False  # ``super().__x__(...)`` is written
        self.any_word = False  # a class finds its attributes at run time
        self.operators = False  # one of those that make a set of views


def look(nodes: list[ast.AST]) -> Look:
    """Whether the program of these nodes is of the language, and what has to be known to run it.

    The words of a refusal come from the program's own identifiers, cut to 60 characters; callers treat them as hostile
    text. ``ordered`` is exact in one direction: without it no set can come to be, and all other values keep an order
    that the program gave them. Two seeds miss the order of a two-string set in half of all cases, eight in less than
    one per cent (``verdicts``), so such programs are run on eight.
    """
    found = Look()
    for node in nodes:
        kind = type(node)
        if kind is ast.Name:
            if id(node) in found.exempt:
                continue
            if type(node.ctx) is ast.Store:  # type: ignore[attr-defined]
                found.bound.add(node.id)  # type: ignore[attr-defined]
            else:
                found.read.append(node.id)  # type: ignore[attr-defined]
        elif kind is ast.Attribute:
            found.attributes.append(node)  # type: ignore[arg-type]
        elif kind is ast.arg:
            found.bound.add(node.arg)  # type: ignore[attr-defined]
        elif kind in _LOOKS:
            _LOOKS[kind](node, found)
            if found.refusal:
                break
        elif kind not in language.NODES:
            found.refusal = "async" if kind.__name__.startswith(("Async", "Await")) else f"syntax {kind.__name__}"
            break
    reason = found.refusal or _names(found) or _attributes(found)
    found.refusal = reason[:60] if reason else None
    found.ordered = found.ordered or _ordered(found)
    return found


def refusal(nodes: list[ast.AST]) -> str | None:
    """``look(nodes).refusal``."""
    return look(nodes).refusal


def _ordered(found: Look) -> bool:
    names = {*found.read, *found.imported, *found.keys, *(node.attr for node in found.attributes)}
    if not names.isdisjoint(language.ORDERED):
        return True
    return not names.isdisjoint(language.VIEWS) and (found.operators or "operator" in names)


def _names(found: Look) -> str | None:
    for name in (*found.bound, *found.read):
        if name[:2] == "__" and dunder(name):
            return f"name {name}"
    for name in found.read:
        if name in PYTHONS_OWN and name not in found.bound:
            return f"name {name}"
    if found.supers and "super" in found.bound:
        return "name super"
    return None


def _attributes(found: Look) -> str | None:
    own = found.words
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
    return name in language.READABLE or (name == "__class__" and getattr(node.value, "id", "") in ("self", "other"))


def _look_at_binding(node: ast.AST, found: Look) -> None:
    for field in ("name", "rest"):
        name = getattr(node, field, None)
        if type(name) is str and id(node) not in found.exempt:
            found.bound.add(name)


def _look_at_set(_: ast.AST, found: Look) -> None:
    found.ordered = True


def _look_at_operator(_: ast.AST, found: Look) -> None:
    found.operators = True


def _look_at_names(node: ast.Global | ast.Nonlocal, found: Look) -> None:
    found.bound.update(node.names)


def _look_at_import(node: ast.Import, found: Look) -> None:
    for alias in node.names:
        if alias.name not in MODULES:
            found.refusal = f"import {alias.name}"
            return
        found.imported.append(alias.name)
        found.bound.add(alias.asname or alias.name.partition(".")[0])


def _look_at_import_from(node: ast.ImportFrom, found: Look) -> None:
    if node.level or node.module not in MODULES:
        found.refusal = f"import {node.module}"
        return
    members = language.MEMBERS[node.module]
    found.imported.append(node.module)
    for alias in node.names:
        if alias.name == "*":
            found.bound.update(members)
            found.imported += members
        elif alias.name not in members:
            found.refusal = f"import {alias.name}"
            return
        else:
            found.imported.append(alias.name)
            found.bound.add(alias.asname or alias.name)


def _look_at_class(node: ast.ClassDef, found: Look) -> None:
    if node.keywords:
        found.refusal = "metaclass" if node.keywords[0].arg == "metaclass" else "class keyword"
        return
    found.bound.add(node.name)
    for statement in node.body:
        if type(statement) is ast.FunctionDef and statement.name in language.METHODS:
            found.any_word = found.any_word or statement.name == "__getattr__"
            found.exempt.add(id(statement))
            hashes = _ending_hashes(statement)
            found.hashes += hashes
            found.exempt.update(id(call.func) for call in hashes)
        elif type(statement) is ast.Assign and len(statement.targets) == 1:
            target = statement.targets[0]
            if type(target) is ast.Name and target.id[:2] == "__":
                _look_at_special(target, statement.value, found)


def _look_at_special(target: ast.Name, value: ast.expr, found: Look) -> None:
    """``__slots__ = "a", "b"`` and ``__str__ = __repr__`` in a class body; ``__hash__`` takes no other name."""
    if target.id in language.WORD_LISTS:
        words = _words(value)
        if words is None or any(hidden(word) or word in LOOKED_AT for word in words):
            found.refusal = f"name {target.id}"
            return
        found.words.update(words)
    elif target.id not in language.METHODS:
        return
    elif type(value) is ast.Name and value.id in language.METHODS and value.id != "__hash__":
        found.exempt.add(id(value))
    found.any_word = found.any_word or target.id == "__getattr__"
    found.exempt.add(id(target))


def _ending_hashes(method: ast.FunctionDef) -> list[ast.Call]:
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


def _look_at_call(node: ast.Call, found: Look) -> None:
    """``super().__x__(...)`` and ``Name.__init__(...)`` are in order."""
    called = node.func
    if type(called) is ast.Attribute and called.attr[:2] == "__":
        base = called.value
        if type(base) is ast.Call and type(base.func) is ast.Name and base.func.id == "super":
            found.supers = True
            if called.attr in language.SUPER:
                found.exempt.add(id(called))
        elif type(base) is ast.Name and called.attr == "__init__":
            found.exempt.add(id(called))


def _look_at_match(node: ast.MatchClass, found: Look) -> None:
    found.keys += node.kwd_attrs


def _look_at_keyword(node: ast.keyword, found: Look) -> None:
    if node.arg:
        found.texts.append(node.arg)
        if dunder(node.arg):
            found.refusal = f"name {node.arg}"


def _look_at_comprehension(node: ast.comprehension, found: Look) -> None:
    if node.is_async:
        found.refusal = "async"


def _look_at_augmented(node: ast.AugAssign, found: Look) -> None:
    """``s.format += x`` reads the attribute too, and would hand it to ``x``."""
    if type(node.target) is ast.Attribute and node.target.attr in LOOKED_AT:
        found.refusal = f"attribute {node.target.attr}"


def _look_at_text(node: ast.Constant, found: Look) -> None:
    if type(node.value) is str and len(node.value) < MAX_WORDS:
        found.texts.append(node.value)


_LOOKS: dict[type[ast.AST], Callable[[Any, Look], None]] = {
    ast.Set: _look_at_set,
    ast.SetComp: _look_at_set,
    ast.BitOr: _look_at_operator,
    ast.BitAnd: _look_at_operator,
    ast.BitXor: _look_at_operator,
    ast.Sub: _look_at_operator,
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
