"""What a reading child does: turn the texts of an order into marshalled programs and arguments, or into verdicts.

No program runs here, so the texts of several jobs may be read by one child. What a later child runs is loaded from the
marshalled form: it never holds another input, and neither the parser nor the screen is at work beside a program.
"""

import ast
import marshal
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from bitzero.sandbox import child, fuel, literals, pages, parse, purity, rewriting, screen, wire

FILENAME = "<program>"
REFERENCELESS = 2  # the last version of marshal's format whose text may follow another one: it has no references


def work(texts: Iterable[tuple[bytes, bytes]], results: child.Results) -> NoReturn:
    """Read every (tag, text), write one record (``pages.RECORD``) each, leave. Never returns."""
    child.leave(b"".join(records(texts, results)))


def records(texts: Iterable[tuple[bytes, bytes]], results: child.Results) -> list[bytes]:
    """One record of each text, in order; the last one is of state LAST if memory ran out, and later texts have none."""
    made = []
    for tag, raw in texts:
        state, flags, body = READ[tag](raw.decode("utf-8", "replace"), results)
        made.append(pages.RECORD.pack(tag, state, flags, len(body)) + body)
        if state == pages.LAST:
            break
    return made


def _reading(
    read: Callable[[str, child.Results], tuple[int, int, bytes]],
) -> Callable[[str, child.Results], tuple[int, int, bytes]]:
    """``read`` whose exceptions are verdicts."""

    def safely(text: str, results: child.Results) -> tuple[int, int, bytes]:
        try:
            return read(text, results)
        except MemoryError:  # what is left of this process is not to be trusted with the next text
            return pages.LAST, 0, child.message("memory", detail="memory")
        except BaseException as error:
            return pages.VERDICT, 0, results.failure(error)

    return safely


def code(text: str, _: child.Results) -> tuple[int, int, bytes]:
    """A program: screened, with ticks, compiled."""
    try:
        tree = ast.parse(text, FILENAME)
        rewriting.drop_idioms(tree)
        nodes = screen.walk(tree)
        found = screen.look(nodes)
        if found.refusal is not None:
            raise child.Refused(found.refusal)
        flags = pages.TOUCHED * found.ordered | pages.PURE * purity.is_pure(nodes, found)
        rewriting.rewrite(found)
        fuel.instrument(nodes)
        compiled = marshal.dumps(compile(tree, FILENAME, "exec"))  # within the other text: it is loaded later
        made = (found.ordered, found.imported, list(found.words), compiled)
        return pages.READY, flags, marshal.dumps(made, REFERENCELESS)
    except (SyntaxError, ValueError, OverflowError) as error:
        raise SyntaxError from error


def arguments(text: str, _: child.Results) -> tuple[int, int, bytes]:
    """One argument list."""
    try:
        positional, keywords = literals.arguments(text)
        touched = _holds_set([*positional, *keywords.values()])
        return (
            pages.READY,
            pages.TOUCHED * touched,
            marshal.dumps((touched, marshal.dumps((positional, keywords))), REFERENCELESS),
        )
    except (SyntaxError, ValueError, OverflowError) as error:
        raise SyntaxError from error


def literal(text: str, results: child.Results) -> tuple[int, int, bytes]:
    """A lone value: its canonical text."""
    return pages.VERDICT, 0, results.value(literals.single(text))


def program(text: str, _: child.Results) -> tuple[int, int, bytes]:
    """The shape of a program."""
    shape = parse.describe(text)
    numbers = f"{shape.statements} {shape.loops} {shape.branches} {len(shape.deletions)}"
    fields = [numbers, shape.canonical, shape.source, *shape.deletions, *shape.names]
    return pages.VERDICT, 0, child.message("ok", value=wire.pack([field.encode() for field in fields])[4:])


READ = {
    pages.CODE: _reading(code),
    pages.JOINED: _reading(code),
    pages.INPUT: _reading(arguments),
    pages.LITERAL: _reading(literal),
    pages.PROGRAM: _reading(program),
}


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
