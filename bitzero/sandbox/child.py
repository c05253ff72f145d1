"""What the child of one program does: run ``f`` on one input in fresh globals and write one result.

Everything here runs after the kernel layers are closed. The child holds the program, this input, and nothing else of
its job: no other input, no earlier result, no expected value, no clock. Only a program that can leave nothing behind
and look at nothing (``purity``) is run on several inputs by one child, each in globals of its own with its own fuel.
A result is a message (``wire``) of five fields: kind, exception, detail, fuel used, value.
"""

import builtins
import itertools
import marshal
import mmap
import operator
import os
from functools import partial
from typing import Any, NoReturn

from bitzero.sandbox import identity, namespace, values, wire

RESULT_FD = 1
OUT_OF_FUEL = 96  # exit status
AGAIN = 95  # exit status: the next input is to have a child whose memory nobody has used
INTERNAL = namespace.INTERNAL
PROGRAM_FIELDS = 4  # of what a reader makes of a program; of an input it makes two


class Refused(Exception):
    """The program names what no program may name; ``args[0]`` says what."""


def work(desk: mmap.mmap, program: "LoadedProgram") -> NoReturn:
    """Run what lies on ``desk`` (``pages.Shelf.lay``), write a result for each input, leave with status 0. Never
    returns, runs no finaliser of an impure program.
    """
    code, arguments, *others = marshal.loads(desk)
    write(program.run(code, arguments))
    for item in others:
        if program.spoilt:
            break
        if len(item) == PROGRAM_FIELDS:
            code = item
            continue
        program = LoadedProgram(program.results.anew())
        result = program.run(code, item)
        if program.spoilt:
            os._exit(AGAIN)
        write(result)
    os._exit(0)


def message(kind: str, exc: str = "", detail: str = "", used: int = 0, value: bytes = b"") -> bytes:
    """One result."""
    return wire.pack([kind.encode(), exc.encode(), detail.encode("ascii", "replace"), b"%d" % used, value])


def write(data: bytes) -> None:
    """Write ``data`` where results go."""
    while data:
        data = data[os.write(RESULT_FD, data) :]


def leave(data: bytes) -> NoReturn:
    """Write ``data`` and end this process."""
    write(data)
    os._exit(0)


class Results:
    """Makes the result of one run; holds its limits and its fuel, and nothing of the job."""

    def __init__(self, fuel: int, value_bytes: int, depth: int) -> None:
        self.fuel = fuel
        self.value_bytes = value_bytes
        self.depth = depth
        self.ticks = iter(range(1, fuel + 1))
        # One unit of fuel a call; the last one ends the process, so no ``except`` of the program can swallow it. Made
        # of C objects that show no number and lead nowhere, without a frame, in half the time of a method.
        self.tick = itertools.chain(self.ticks, iter(partial(os._exit, OUT_OF_FUEL), None)).__next__

    def anew(self) -> "Results":
        """The same limits with all of the fuel."""
        return Results(self.fuel, self.value_bytes, self.depth)

    def used(self) -> int:
        """Ticks so far."""
        return self.fuel - operator.length_hint(self.ticks)

    def stop(self, kind: str, detail: str) -> NoReturn:
        """The result is this, and the child ends here."""
        leave(message(kind, detail=detail, used=self.used()))

    def value(self, result: Any) -> bytes:
        text = values.canonical(result, self.value_bytes, self.depth)
        return message("ok", used=self.used(), value=text.encode("ascii"))

    def failure(self, error: BaseException) -> bytes:
        """Typed verdict of an exception: by exact class, so that a program's own ``ValueError`` is a UserException."""
        kind = type(error)
        if kind is values.Unsupported:
            return message("forbidden", detail="unsupported_type", used=self.used())
        if kind is values.Oversize:
            return message("oversize", detail=str(error.args[0]), used=self.used())
        if kind is Refused:
            return message("forbidden", detail=str(error.args[0]), used=self.used())
        if kind is MemoryError:
            return message("memory", detail="memory", used=self.used())
        return message("exception", exc=EXCEPTIONS.get(id(kind), "UserException"), used=self.used())


EXCEPTIONS = {
    id(kind): name  # by address: a program's metaclass could make its class equal to another
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__name__ == name
}


class LoadedProgram:
    """The globals of a child's program, and the run. Made before the fork, when no program is there yet."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.spoilt = False  # the run ended by a MemoryError, which may come of what earlier inputs left
        self.names = namespace.fresh(results)  # kept until the exit: finalisers of a program have no say in its result
        identity.on_repr = lambda: results.stop("forbidden", "repr of an address")

    def run(self, program: tuple[Any, ...], arguments: tuple[Any, ...]) -> bytes:
        """The message of the one run. Hashes are salted before anything of the program is hashed."""
        try:
            (ordered, imported, words, compiled), (holds_set, given) = program, arguments
            if ordered or holds_set:
                identity.salt(imported)
            namespace.DOORS.words.update(words)
            code, (positional, keywords) = marshal.loads(compiled), marshal.loads(given)
            del compiled, given
            exec(code, self.names)
            if "f" not in self.names:
                raise NameError("f")
            return self.results.value(self.names["f"](*positional, **keywords))
        except BaseException as error:
            self.spoilt = type(error) is MemoryError
            return self.results.failure(error)
