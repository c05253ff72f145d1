"""The shape of a program from its tree alone: alpha-normalised source, deletions, counts. Nothing is executed.

Pure functions over the standard library's ``ast``. Source that a model wrote is passed here inside a confined child
only (``Sandbox.parse``); source the project generated itself may be passed anywhere.
"""

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_DELETIONS = 48
MAX_DELETION_CHARS = 100_000  # of all of them together
MAX_NAMES = 64
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_BRANCHES = ast.If | ast.IfExp | ast.comprehension | ast.match_case | ast.ExceptHandler


class Description(NamedTuple):
    """What ``describe`` reads off a tree; the fields of ``jobs.Parsed``."""

    canonical: str
    source: str
    deletions: tuple[str, ...]
    statements: int
    loops: int
    branches: int
    names: tuple[str, ...]


def canonical(code: str) -> str:
    """Alpha-normalised source: arguments, locals and helpers become v0, v1 … in order of appearance.

    Two programs that differ only in such names, in layout, comments, docstrings or annotations have equal text.
    Constants, the top-level name ``f``, attributes, keyword names of foreign calls and class members are kept.
    Raises ``SyntaxError``.
    """
    tree = ast.parse(code)
    strip_docstrings(tree)
    strip_annotations(tree)
    return ast.unparse(rename(tree))


def describe(code: str) -> Description:
    """Everything the host may want to know about a program without running it.

    Raises ``SyntaxError`` if the text is no program, or is not helper functions followed by one function ``f``.
    """
    tree = ast.parse(code)
    check_structure(tree)
    strip_docstrings(tree)
    strip_annotations(tree)
    source = ast.unparse(tree)
    deletions = tuple(_deletions(tree))
    nodes = list(ast.walk(tree))
    names = tuple(sorted(_foreign_names(tree, nodes)))[:MAX_NAMES]
    return Description(
        canonical=ast.unparse(rename(tree)),  # in place, when the names as written are no longer needed
        source=source,
        deletions=deletions,
        statements=sum(isinstance(node, ast.stmt) for node in nodes) - len(tree.body),
        loops=sum(isinstance(node, ast.For | ast.While) for node in nodes),
        branches=sum(isinstance(node, _BRANCHES) for node in nodes),
        names=names,
    )


def check_structure(tree: ast.Module) -> None:
    """Raise ``SyntaxError`` unless the module is plain helper functions and then exactly one function ``f``."""
    if not tree.body or not all(isinstance(node, ast.FunctionDef) for node in tree.body):
        raise SyntaxError("structure: only functions may stand at top level")
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if names[-1] != "f" or len(set(names)) != len(names):
        raise SyntaxError("structure: the last function must be the only f")
    if any(node.decorator_list for node in tree.body if isinstance(node, ast.FunctionDef)):
        raise SyntaxError("structure: decorators at top level")


def strip_docstrings(tree: ast.AST) -> None:
    """Remove every string that stands alone as the first statement of a function or class, in place."""
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS | ast.ClassDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                node.body = node.body[1:] or [ast.copy_location(ast.Pass(), first)]


def strip_annotations(tree: ast.AST) -> None:
    """Remove every annotation, in place: it says nothing of what a program does. A class keeps its own, as a dataclass
    reads them.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, _FUNCTIONS):
            node.returns = None
        if not isinstance(node, ast.ClassDef):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if isinstance(block, list):
                    setattr(node, name, _without_annotations(block) if block else block)


def _without_annotations(block: list[ast.stmt]) -> list[ast.stmt]:
    kept: list[ast.stmt] = []
    for statement in block:
        if not isinstance(statement, ast.AnnAssign):
            kept.append(statement)
        elif statement.value is not None:
            plain = ast.Assign(targets=[statement.target], value=statement.value)
            kept.append(ast.copy_location(plain, statement))
    return kept or [ast.copy_location(ast.Pass(), block[0])]


def rename(tree: ast.Module) -> ast.Module:
    """Alpha-normalise ``tree`` in place and return it; scopes follow Python's rules."""
    renamer = _Renamer()
    helpers = [node.name for node in tree.body if isinstance(node, _FUNCTIONS | ast.ClassDef) and node.name != "f"]
    globals_ = dict.fromkeys([*helpers, *(name for name in _bound(tree.body) if name != "f")], "")
    renamer.inside(globals_, lambda: renamer.all(tree.body))
    return tree


class _Renamer(ast.NodeVisitor):
    """Walks in order of appearance; a bound name gets its number when it is first met."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, str]] = []
        self.count = 0
        self.parameters: dict[str | None, dict[str | None, str]] = {}  # of the program's own functions, for keywords

    def inside(self, bound: dict[str, str], walk: Callable[[], None]) -> None:
        self.scopes.append(bound)
        walk()
        self.scopes.pop()

    def all(self, nodes: list[ast.stmt] | list[ast.expr] | list[ast.comprehension]) -> None:
        for node in nodes:
            self.visit(node)

    def fresh(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope:
                if not scope[name]:
                    scope[name] = f"v{self.count}"
                    self.count += 1
                return scope[name]
        return name

    def visit_Name(self, node: ast.Name) -> None:
        node.id = self.fresh(node.id)

    def visit_arg(self, node: ast.arg) -> None:
        node.arg = self.fresh(node.arg)
        if node.annotation:
            self.visit(node.annotation)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        node.names = [self.fresh(name) for name in node.names]

    visit_Nonlocal = visit_Global

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        node.name = self.fresh(node.name) if node.name else None
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        node.name = self.fresh(node.name) if node.name else None
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_Call(self, node: ast.Call) -> None:
        self.visit(node.func)
        self.all(node.args)
        parameters = self.parameters.get(node.func.id, {}) if isinstance(node.func, ast.Name) else {}
        for keyword in node.keywords:
            keyword.arg = parameters.get(keyword.arg, keyword.arg)
            self.visit(keyword.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        node.name = self.fresh(node.name)
        self.all(node.decorator_list)
        self._arguments_outside(node.args)
        bound = dict.fromkeys([*_argument_names(node.args), *_bound(node.body)], "")

        def walk() -> None:
            written = _argument_names(node.args)
            self._arguments_inside(node.args)
            self.parameters[node.name] = dict(zip(written, _argument_names(node.args), strict=True))
            self.all(node.body)

        self.inside(bound, walk)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._arguments_outside(node.args)

        def walk() -> None:
            self._arguments_inside(node.args)
            self.visit(node.body)

        self.inside(dict.fromkeys(_argument_names(node.args), ""), walk)

    def _arguments_outside(self, args: ast.arguments) -> None:
        for default in [*args.defaults, *args.kw_defaults]:
            if default is not None:
                self.visit(default)

    def _arguments_inside(self, args: ast.arguments) -> None:
        for arg in _arguments(args):
            self.visit(arg)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.visit(node.generators[0].iter)  # evaluated in the enclosing scope
        targets = [name for generator in node.generators for name in _stored(generator.target)]

        def walk() -> None:
            for index, generator in enumerate(node.generators):
                if index:
                    self.visit(generator.iter)
                self.visit(generator.target)
                self.all(generator.ifs)
            self.all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])

        self.inside(dict.fromkeys(targets, ""), walk)

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehension


def _arguments(args: ast.arguments) -> list[ast.arg]:
    named = [*args.posonlyargs, *args.args, *([args.vararg] if args.vararg else []), *args.kwonlyargs]
    return [*named, *([args.kwarg] if args.kwarg else [])]


def _argument_names(args: ast.arguments) -> list[str]:
    return [arg.arg for arg in _arguments(args)]


def _stored(target: ast.AST) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def _bound(body: list[ast.stmt]) -> list[str]:
    """Names that statements bind in their own scope, in no particular order."""
    names: list[str] = []
    outer: set[str] = set()
    for node in _own_scope(body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        elif isinstance(node, _FUNCTIONS | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.append(node.name)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            outer.update(node.names)
    return [name for name in names if name not in outer]


def _own_scope(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Nodes of ``body`` without the inside of nested functions, lambdas and classes; of comprehensions only walrus."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, _COMPREHENSIONS):
            yield from (inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr))
        elif not isinstance(node, _FUNCTIONS | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))


def _deletions(tree: ast.Module) -> Iterator[str]:
    """Source with each single statement left out, in order, as many as the two limits allow; ``f`` itself stays."""
    made = size = 0
    for block, removable in list(_blocks(tree)):
        for index, statement in enumerate(list(block)):
            if made == MAX_DELETIONS or size > MAX_DELETION_CHARS:
                return
            if (len(block) == 1 and not removable) or statement is tree.body[-1]:
                continue  # an emptied body does not parse; deleting its owner is another candidate
            del block[index]
            shorter = ast.unparse(tree)
            block.insert(index, statement)
            yield shorter
            made += 1
            size += len(shorter)


def _blocks(tree: ast.Module) -> Iterator[tuple[list[ast.stmt], bool]]:
    """Every statement list, and whether it may be left empty."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and block:
                yield block, field == "orelse"


def _foreign_names(tree: ast.Module, nodes: list[ast.AST]) -> set[str]:
    """Built-in names read and attributes used, as ``len`` and ``.append``."""
    own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.name for node in nodes if isinstance(node, _FUNCTIONS | ast.ClassDef)}
    read = {node.id for node in nodes if isinstance(node, ast.Name)} - own
    return read | {f".{node.attr}" for node in nodes if isinstance(node, ast.Attribute)}
