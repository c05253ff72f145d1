"""A person's functions as the model and the sandbox take them: one program whose last function is ``f``; pure.

The texts come from a person and are shaped with ``ast`` alone, never run here. ``traced`` weaves reports into a program
so that a run in the sandbox tells its own trace, in the order and form of the generator's (``tasks.traces``).
"""

import ast
import builtins
from collections.abc import Iterable, Mapping

MAX_EVENTS = 64  # reports of one run; what follows is not told
_MUTATORS = frozenset(
    "add append clear discard extend insert pop popitem remove reverse setdefault sort update".split()
)
_OPERATIONS = (
    ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.IfExp, ast.Subscript, ast.Attribute, ast.ListComp, ast.DictComp,
    ast.SetComp,
)  # fmt: skip
_TOLD = "(bool, int, float, str, bytes, list, tuple, dict, set)"  # an iterator would be used up by a look at it
_OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class ProgramError(ValueError):
    """A program that cannot be made of these functions; the message is one line."""


def names_defined(source: str) -> tuple[str, ...]:
    """Names of the functions at top level."""
    return tuple(node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))


def program_of(source: str, name: str, known: Mapping[str, str]) -> str:
    """A program whose ``f`` is the function ``name`` of ``source`` or of ``known`` (name → source), with all it calls.

    Helpers come first, the function is called f, and what was called f before is renamed; layout is that of
    ``ast.unparse``, without docstrings. Raises ``ProgramError`` where the function is nowhere.
    """
    own = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)} if source else {}
    found: dict[str, ast.FunctionDef] = {}
    waiting = [name]
    while waiting:
        wanted = waiting.pop()
        node = own.get(wanted) or _known_function(wanted, known)
        if node is None or wanted in found:
            continue
        found[wanted] = node
        waiting += sorted(_names_read(node))
    if name not in found:
        remembered = f"; remembered are {', '.join(sorted(known))}" if known else ""
        raise ProgramError(f"{name} is not defined: write def {name}(a): return … first{remembered}")
    helpers = [found[other] for other in found if other != name][::-1]
    tree = ast.Module(body=[*helpers, found[name]], type_ignores=[])
    try:
        return ast.unparse(_Renamed(_new_names(tree, name)).visit(_bare(tree)))
    except ValueError:  # Python writes no number of more than 4,300 digits, which `0xff…` may be
        raise ProgramError("a number in it has too many digits to be written out; ask with a smaller one") from None


def expression_program(text: str, known: Mapping[str, str]) -> str:
    """A program whose ``f()`` is the value of an expression, with the remembered functions that it calls."""
    name = "expression_of_the_person"
    return program_of(f"def {name}():\n    return ({text}\n)", name, known)


def traced(code: str) -> str:
    """The program with reports woven in: its ``f`` gives [(line, variable, value), …], variable '' for a part of a
    return.

    Lines count from 0 in ``code``, as in a trace. An exception ends the list.
    """
    mark = "woven"
    while mark in code:  # names that the program does not have
        mark += "_"
    weaver = _Weaver(mark)
    body = [weaver.visit(node) for node in ast.parse(code).body]
    woven = ast.unparse(ast.fix_missing_locations(_Renamed({"f": f"{mark}_f"}).visit(ast.Module(body, []))))
    return "\n".join([
        f"from copy import deepcopy as {mark}_copy",
        f"{mark}_told = []",
        f"def {mark}_change(line, name, value):",
        f"    if len({mark}_told) < {MAX_EVENTS} and (value is None or isinstance(value, {_TOLD})):",
        f"        {mark}_told.append((line, name, {mark}_copy(value)))",
        f"def {mark}_part(line, value):",
        f"    {mark}_change(line, '', value)",
        "    return value",
        woven,
        "def f(*args, **named):",
        "    try:",
        f"        {mark}_f(*args, **named)",
        "    except Exception:",
        "        pass",
        f"    return {mark}_told",
    ])  # fmt: skip


def _known_function(name: str, known: Mapping[str, str]) -> ast.FunctionDef | None:
    """The function of that name in the source that is remembered under it."""
    try:
        body = ast.parse(known.get(name, "")).body
    except SyntaxError:
        return None  # a profile written by another program, or by hand
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _names_read(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _new_names(tree: ast.Module, name: str) -> dict[str, str]:
    """Old name → new one: the function becomes f, and what was called f something that is free."""
    taken = _names_read(tree) | set(dir(builtins)) | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    taken |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    free = next(f"f{i}" for i in range(1, 1000) if f"f{i}" not in taken)
    return {} if name == "f" else {name: "f", "f": free}


def _bare(tree: ast.Module) -> ast.Module:
    """Without docstrings and decorators, which say nothing to the model."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(node.body) > 1:
                node.body = node.body[1:]
    return tree


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg, node.annotation = self.names.get(node.arg, node.arg), None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.name, node.returns = self.names.get(node.name, node.name), None
        self.generic_visit(node)
        return node


class _Weaver(ast.NodeTransformer):
    """Adds a report after every statement that changes a variable, and around the parts of a return."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def visit_Return(self, node: ast.Return) -> ast.Return:
        if node.value is not None:
            node.value = _Parts(node.lineno - 1, self.mark).inside(node.value)
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        node.body = [*_reports(node.lineno, _targets(node.target), self.mark), *node.body]
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and not isinstance(node, ast.Module):
                told = [(item, *_reports(item.lineno, _changed(item), self.mark)) for item in block]
                setattr(node, name, [new for pair in told for new in pair])
        return node


class _Parts(ast.NodeTransformer):
    """Reports the operations inside an expression in the order of their evaluation, the expression itself left out."""

    def __init__(self, line: int, mark: str) -> None:
        self.line, self.mark = line, mark

    def inside(self, node: ast.expr) -> ast.expr:
        """The expression, its parts reported."""
        if not isinstance(node, _OWN_SCOPE):
            super().generic_visit(node)
        return node

    def visit(self, node: ast.AST) -> ast.AST:
        """A part: reported where it is an operation; what may run more than once is left as it is."""
        if isinstance(node, _OWN_SCOPE[:1]) or not isinstance(node, ast.expr):
            return super().generic_visit(node) if not isinstance(node, ast.expr) else node
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, _OWN_SCOPE):
            inner: ast.expr = node
        elif isinstance(called, ast.Attribute):  # a method is no part of its own, what it is called on may be
            called.value = self.visit(called.value)  # type: ignore[assignment]
            assert isinstance(node, ast.Call)
            node.args = [self.visit(arg) for arg in node.args]  # type: ignore[misc]
            inner = node
        else:
            inner = super().generic_visit(node)  # type: ignore[assignment]
        if not isinstance(node, _OPERATIONS):
            return inner
        call = ast.Name(f"{self.mark}_part", ast.Load())
        return ast.Call(func=call, args=[ast.Constant(self.line), inner], keywords=[])


def _reports(lineno: int, names: Iterable[str], mark: str) -> list[ast.stmt]:
    call = ast.Name(f"{mark}_change", ast.Load())
    return [
        ast.Expr(ast.Call(call, [ast.Constant(lineno - 1), ast.Constant(name), ast.Name(name, ast.Load())], []))
        for name in names
    ]


def _changed(item: ast.stmt) -> list[str]:
    """Variables that a plain statement may have changed."""
    match item:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            deleted = isinstance(item, ast.Delete)
            return [n for t in targets for n in _targets(t) if not (deleted and isinstance(t, ast.Name))]
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target, value=ast.expr()):
            return _targets(target)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method))):
            return [name] if method in _MUTATORS else []
    return []


def _targets(target: ast.expr) -> list[str]:
    """Variables that an assignment to this sets or changes."""
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [name for part in parts for name in _targets(part)]
        case ast.Subscript(value=value) | ast.Attribute(value=value) | ast.Starred(value=value):
            return _targets(value)
    return []
