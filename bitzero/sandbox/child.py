"""What a forked child does: parse, screen, fuel, run ``f`` on each input in fresh globals, write one result each.

Everything here runs after the kernel layers are closed. The child holds no expected value and nothing of another
program. A result is a message (``wire``) of six fields: STOP flag, kind, exception, detail, numbers, value. STOP marks
the last message of a child that ended itself (out of fuel, out of memory, refused): later inputs need another child.
"""

import ast
import builtins
import os
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from bitzero.sandbox import fuel, identity, literals, namespace, parse, rewriting, screen, values, wire

RESULT_FD = 1
FILENAME = "<program>"
INTERNAL = namespace.INTERNAL


class Task(NamedTuple):
    """One child's work."""

    mode: str  # "run" | "literal" | "parse"
    code: str
    inputs: list[str]  # argument lists, value texts, or (parse) programs
    fuel: int
    value_bytes: int
    depth: int


class Refused(Exception):
    """The program names what no program may name; ``args[0]`` says what."""


def work(task: Task) -> NoReturn:
    """Do all of ``task``, write the results, leave with status 0. Never returns, runs no finaliser of a program."""
    results = Results(task)
    each(task, results)
    results.leave()


def each(task: Task, results: "Results") -> None:
    """A verdict of every input, collected in ``results``."""
    steps: dict[str, Callable[[str], None]] = {
        "run": Program(task, results).call,
        "literal": results.literal,
        "parse": results.parse,
    }
    one = steps[task.mode]
    for text in task.inputs:
        results.begin()
        try:
            one(text)
        except BaseException as error:
            results.failure(error)


class Results:
    """Collects the messages of one child and writes them at once when it leaves."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.messages: list[bytes] = []
        self.touched = False  # the program may make a set
        self.left = task.fuel
        self.started_us = 0  # by the thread's clock: the process clock only moves with ticks once a timer is armed

    def begin(self) -> None:
        self.left = self.task.fuel
        self.started_us = time.thread_time_ns() // 1000

    def tick(self) -> bool:
        """One unit of fuel; the last one ends the process, so no ``except`` of the program can swallow it."""
        self.left -= 1
        if self.left < 0:
            self.left = 0
            self.stop("timeout", "fuel")
        return True

    def add(self, kind: str, exc: str = "", detail: str = "", value: bytes = b"", stop: bool = False) -> None:
        used_us = max(0, time.thread_time_ns() // 1000 - self.started_us)
        numbers = f"{used_us} {self.task.fuel - self.left} {int(self.touched)}"
        fields = [b"1" if stop else b"0", kind.encode(), exc.encode(), detail.encode("ascii", "replace")]
        self.messages.append(wire.pack([*fields, numbers.encode(), value]))

    def stop(self, kind: str, detail: str) -> NoReturn:
        """The verdict of the current input, and the end of this child."""
        self.add(kind, detail=detail, stop=True)
        self.leave()

    def leave(self) -> NoReturn:
        data = b"".join(self.messages)
        while data:
            data = data[os.write(RESULT_FD, data) :]
        os._exit(0)

    def value(self, result: Any) -> None:
        text = values.canonical(result, self.task.value_bytes, self.task.depth)
        self.add("ok", value=text.encode("ascii"))

    def literal(self, text: str) -> None:
        self.value(literals.single(text))

    def parse(self, text: str) -> None:
        shape = parse.describe(text)
        numbers = f"{shape.statements} {shape.loops} {shape.branches} {len(shape.deletions)}"
        fields = [numbers, shape.canonical, shape.source, *shape.deletions, *shape.names]
        self.add("ok", value=wire.pack([field.encode() for field in fields])[4:])

    def failure(self, error: BaseException) -> None:
        """Typed verdict of an exception: by exact class, so that a program's own ``ValueError`` is a UserException."""
        kind = type(error)
        if kind is values.Unsupported:
            self.add("forbidden", detail="unsupported_type")
        elif kind is values.Oversize:
            self.add("oversize", detail=str(error.args[0]))
        elif kind is Refused:
            self.add("forbidden", detail=str(error.args[0]))
        elif kind is MemoryError:
            self.stop("memory", "memory")  # what is left of this process is not to be trusted with the next input
        else:
            self.add("exception", exc=EXCEPTIONS.get(id(kind), "UserException"))


EXCEPTIONS = {
    id(kind): name  # by address: a program's metaclass could make its class equal to another
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__name__ == name
}


class Program:
    """The program of a ``run`` task, compiled once and started anew for every input."""

    def __init__(self, task: Task, results: Results) -> None:
        self.results = results
        self.source = task.code
        self.tree: ast.Module | None = None
        self.compiled: types.CodeType | None = None
        self.found = screen.Look()
        self.salted = False
        self.kept: list[dict[str, Any]] = []  # globals of earlier inputs: their finalisers must not tick later ones
        identity.on_repr = lambda: results.stop("forbidden", "repr of an address")

    def prepare(self) -> ast.Module:
        """The program's tree as it is run."""
        tree = ast.parse(self.source, FILENAME)
        rewriting.drop_idioms(tree)
        nodes = screen.walk(tree)
        self.found = screen.look(nodes)
        self.results.touched = self.found.ordered
        if self.found.refusal is not None:
            raise Refused(self.found.refusal)
        rewriting.rewrite(self.found)
        fuel.instrument(nodes)
        return tree

    def arguments(self, text: str) -> tuple[list[Any], dict[str, Any]]:
        """New arguments. Where a set may come to be, hashes are salted before anything is hashed."""
        positional, keywords = literals.arguments(text)
        if not self.results.touched:
            self.results.touched = _holds_set([*positional, *keywords.values()])
        if self.results.touched and not self.salted:
            self.salted, self.compiled = True, None
            identity.salt(self.found.imported)
            positional, keywords = literals.arguments(text)
        return positional, keywords

    def call(self, text: str) -> None:
        try:
            self.tree = self.tree or self.prepare()
            positional, keywords = self.arguments(text)
            if self.compiled is None:
                self.compiled = compile(self.tree, FILENAME, "exec")
        except (SyntaxError, ValueError, OverflowError) as error:
            raise SyntaxError from error
        names = namespace.fresh(self.results, self.found.words)
        self.kept.append(names)
        exec(self.compiled, names)
        if "f" not in names:
            raise NameError("f")
        self.results.value(names["f"](*positional, **keywords))


def _holds_set(items: list[Any]) -> bool:
    pending = list(items)
    while pending:
        item = pending.pop()
        if type(item) is set:
            return True
        if type(item) in (list, tuple):
            pending.extend(item)
        elif type(item) is dict:
            pending.extend(item.values())
    return False
