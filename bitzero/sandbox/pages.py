"""Where texts lie in the zygote: never on its heap, in pages that a program's child does not inherit or that are wiped.

A freed heap block keeps its text, and every later child inherits it; pages can be withheld from a fork
(``MADV_DONTFORK``) and given back to the kernel (``MADV_DONTNEED``), which no child can undo.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

# A record: tag of the text, state, flags, bytes of the body.
RECORD = struct.Struct("<cBBxI")
READY, VERDICT, LAST, DEATH = range(4)  # marshalled; a verdict; the last verdict of a reader that gave up; how it died
TOUCHED, PURE = 1, 2  # flags: hash order or addresses may matter to it; a program that can leave nothing behind
CODE, INPUT, LITERAL, PROGRAM = b"c", b"i", b"l", b"p"  # a program to run, its inputs, a lone literal, one to describe
JOINED = b"j"  # a program to run whose owner is that of the program before it
TUPLE = struct.Struct("<cI")  # what marshal writes before the items of a tuple
MAX_SHARED = 64  # inputs of a pure program that one child is run on
MAX_CPU_DEATHS = 4  # a job that ran out of processor time this often is not run further: what is left is infra
_LENGTH = struct.Struct("<I")
_PLACE = struct.Struct("<IIIII")  # record at hand, the next one, that of its program, the program's deaths, the end


class Pages:
    """A private mapping of ``size`` bytes; ``hidden`` from children unless lent to one."""

    def __init__(self, size: int, hidden: bool) -> None:
        self.size = size
        self.map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.hide(hidden)

    def hide(self, hidden: bool) -> None:
        """Whether children forked from now on lack these pages."""
        self.map.madvise(mmap.MADV_DONTFORK if hidden else mmap.MADV_DOFORK)

    def wipe(self) -> None:
        """Give every page back: it reads as zeros afterwards."""
        self.map.madvise(mmap.MADV_DONTNEED)

    def fill(self, reader: int, start: int, end: int) -> int:
        """Read from a descriptor into ``start … end`` until it is full or nobody writes; the place reached."""
        with memoryview(self.map) as view:
            while start < end and (count := os.readv(reader, [view[start:end]])):
                start += count
        return start


class Text(NamedTuple):
    """Where one text of an order lies."""

    tag: bytes
    start: int
    end: int


class ReceivedOrder(Pages):
    """The order at hand as it came through the pipe: u32 size, then each text as u32 length, tag and bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(size, hidden=True)

    def receive(self, reader: int) -> bool:
        """Take the next order in; False when the host has gone. Raises ``ValueError`` if it does not fit."""
        if self.fill(reader, 0, 4) < 4:
            return False
        (size,) = _LENGTH.unpack_from(self.map, 0)
        if 4 + size > self.size:
            raise ValueError("order")
        return self.fill(reader, 4, 4 + size) == 4 + size

    def texts(self) -> Iterator[Text]:
        """Places of all texts; only lengths and tags are looked at."""
        at, end = 4, 4 + _LENGTH.unpack_from(self.map, 0)[0]
        while at < end:
            start = at + 5
            at += 4 + _LENGTH.unpack_from(self.map, at)[0]
            yield Text(self.map[start - 1 : start], start, at)

    def copies(self, texts: list[Text]) -> list[tuple[bytes, bytes]]:
        """Tag and bytes of each text: for the child that reads them."""
        return [(text.tag, self.map[text.start : text.end]) for text in texts]


class Shelf(Pages):
    """What became of each text of an order, in order, and how far the zygote has come with it.

    No program can look here: which inputs it is run on, which one this is, how earlier ones ended.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, hidden=True)

    def clear(self) -> None:
        """Begin an order."""
        self.wipe()
        _PLACE.pack_into(self.map, 0, 0, _PLACE.size, 0, 0, _PLACE.size)

    def add(self, tray: Pages, size: int) -> bool:
        """Take over the first ``size`` bytes of the tray, whole records; False if they do not fit."""
        at, following, code, deaths, end = _PLACE.unpack_from(self.map)
        if end + size > self.size:
            return False
        with memoryview(self.map) as here, memoryview(tray.map) as there:
            here[end : end + size] = there[:size]
        _PLACE.pack_into(self.map, 0, at, following, code, deaths, end + size)
        return True

    def add_death(self, tag: bytes, word: str) -> None:
        """The record of a text whose reader died of it."""
        at, following, code, deaths, end = _PLACE.unpack_from(self.map)
        RECORD.pack_into(self.map, end, tag, DEATH, 0, len(word))
        body = end + RECORD.size
        self.map[body : body + len(word)] = word.encode()
        _PLACE.pack_into(self.map, 0, at, following, code, deaths, body + len(word))

    def step(self) -> str:
        """Go to the next text that has an outcome. What is to be done: "answer", "budget", "run", or "end"."""
        _, at, code, deaths, end = _PLACE.unpack_from(self.map)
        while at < end:
            tag, _, _, size = RECORD.unpack_from(self.map, at)
            following = at + RECORD.size + size
            if tag in (CODE, JOINED):
                at, code, deaths = following, at, 0
                continue
            _PLACE.pack_into(self.map, 0, at, following, code, deaths, end)
            if tag == INPUT and self._at_hand()[0] == READY:
                return "budget" if deaths >= MAX_CPU_DEATHS else "run"
            return "answer"
        return "end"

    def _at_hand(self) -> tuple[int, int, int]:
        """State, start and end of the body that decides over the text at hand: its own or its program's."""
        at, _, code, _, _ = _PLACE.unpack_from(self.map)
        tag, state, _, size = RECORD.unpack_from(self.map, at)
        if tag == INPUT and self.map[code + 1] != READY:
            at = code
            _, state, _, size = RECORD.unpack_from(self.map, code)
        return state, at + RECORD.size, at + RECORD.size + size

    def answer(self, tray: Pages) -> tuple[str, int]:
        """Put the reader's verdict on the text at hand into the tray: how the reader ended, and bytes."""
        state, start, end = self._at_hand()
        if state == DEATH:
            return self.map[start:end].decode(), 0
        with memoryview(self.map) as here, memoryview(tray.map) as there:
            there[: end - start] = here[start:end]
        return "done", end - start

    def flags(self) -> int:
        """TOUCHED if hash order or addresses may matter to the text at hand or to its program, PURE if that is pure."""
        at, _, code, _, _ = _PLACE.unpack_from(self.map)
        flags: int = self.map[at + 2]
        if self.map[at : at + 1] == INPUT:
            flags |= self.map[code + 2]
        return TOUCHED if flags & TOUCHED else flags

    def lay(self, desk: Pages) -> int:
        """Put program and input at hand on the desk, one marshalled tuple for the next child. The number of inputs.

        After a pure program's input come its further inputs, then pure programs of the same owner with theirs.
        """
        at, _, code, _, _ = _PLACE.unpack_from(self.map)
        following = list(self._following())
        starts = [code, at, *(start for start, _ in following)]
        place = TUPLE.size
        TUPLE.pack_into(desk.map, 0, b"(", len(starts))
        with memoryview(self.map) as here, memoryview(desk.map) as there:
            for start in starts:
                size = RECORD.unpack_from(self.map, start)[3]
                there[place : place + size] = here[start + RECORD.size : start + RECORD.size + size]
                place += size
        return 1 + sum(tag == INPUT for _, tag in following)

    def _following(self) -> Iterator[tuple[int, bytes]]:
        """Places and tags of what may be run in one child with the input at hand. Nothing after a death for want of
        time: each input has its own child then.
        """
        _, at, _, deaths, end = _PLACE.unpack_from(self.map)
        room = MAX_SHARED - 1 if self.flags() == PURE and not deaths else 0
        while at < end and room:
            tag, state, flags, size = RECORD.unpack_from(self.map, at)
            if (tag, state, flags) not in ((INPUT, READY, 0), (JOINED, READY, PURE)):
                break
            yield at, tag
            at += RECORD.size + size
            room -= tag == INPUT

    def died(self) -> None:
        """Count a death of the program at hand for want of processor time."""
        at, following, code, deaths, end = _PLACE.unpack_from(self.map)
        _PLACE.pack_into(self.map, 0, at, following, code, deaths + 1, end)


def told_of(tray: Pages, size: int, word: str, count: int) -> list[tuple[str, int, int]]:
    """How a child of ``count`` inputs ended, input by input: a word, then start and end of its message in the tray.

    A death is the verdict on the first input, before which nothing was shared. Want of fuel is one on any input, as
    each has its own fuel. Inputs left out are run again: after another death, from the one that met it.
    """
    if count == 1:
        return [(word, 0, size)]
    told: list[tuple[str, int, int]] = []
    at = 0
    while at + 4 <= size and len(told) < count:
        end = at + 4 + int.from_bytes(tray.map[at : at + 4], "little")
        if end > size:
            break
        told.append(("done", at, end))
        at = end
    if not told or (word == "fuel" and len(told) < count):
        told.append((word, at, size))
    elif word == "done" and at < size:  # no message: the host finds it forged
        told[-1] = ("done", told[-1][1], size)
    return told
