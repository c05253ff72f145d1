"""A fixed vocabulary of 512 atoms in which every text has one lossless, compact spelling.

Nothing is trained and no corpus is read: 256 bytes, the words and operators of Python's own reference, line structure
and the tags of the task forms. Identifiers outside the table, strings and digits are spelled byte by byte.

The spaces that ``ast.unparse`` writes cost no token. A deterministic rule on the atoms so far says where a space
stands (after a comma, around a binary operator, beside a keyword); where a text deviates, an explicit space byte or
``GLUE`` (no space here although the rule says so) is written. Losslessness therefore never depends on the rule.
"""

import re
from collections.abc import Sequence

from bitzero.config import NUM_LEVELS, PAD, VOCAB_SIZE
from bitzero.tasks import traces

_TAGS = (
    *("<pad>", "<eos>", "<solve>", "<propose>", "<deduction>", "<abduction>", "<induction>"),
    *(f"<L{level}>" for level in range(NUM_LEVELS)),
    *("<direct>", "<trace>", "<ans>", "<in>", "<out>", "<prog>"),
)
EOS, SOLVE, PROPOSE, DEDUCTION_TAG, ABDUCTION_TAG, INDUCTION_TAG = range(PAD + 1, 7)
LEVELS = tuple(range(INDUCTION_TAG + 1, INDUCTION_TAG + 1 + NUM_LEVELS))
DIRECT, TRACE, ANS, IN, OUT, PROG = range(LEVELS[-1] + 1, LEVELS[-1] + 7)
KIND_TAGS = (DEDUCTION_TAG, ABDUCTION_TAG, INDUCTION_TAG)  # for scripts; a kind knows its own (`kinds.tags_of`)
TEXT = PROG + 1  # ids from here on spell programs and values; those below are tags
GLUE, NEWLINE, INDENT, DEDENT = range(TEXT, 23)  # NEWLINE keeps the level, INDENT is ':' and a deeper line
_BYTES = 32  # byte b is id 32 + b; ids 23 … 31 are spare
_WORDS = _BYTES + 256  # the table of words starts here
MAX_LEVEL = 16  # deeper lines are spelled in bytes, so that no id sequence decodes to a huge text

# What an atom is to the atom before it and to the one after it (see _SPACE).
_NONE, _NAME, _WORD, _KEYWORD, _START, _BINARY = range(6)  # as the next atom
_TIGHT, _WIDE, _CLOSE = 6, 7, 8  # as the previous atom, beside _NAME and _WORD

_KEYWORDS = [
    *"return if else elif for while in not and or is lambda break continue pass from import as with".split(),
    *"try except finally raise del assert yield def class global nonlocal".split(),
    *("not in", "is not"),
]
_OPERAND_WORDS = "None True False len int str float bool list dict set tuple sum max min abs sorted ord".split()
_CALLS = (
    "len sum max min sorted abs range enumerate zip map filter list tuple set dict str int bool reversed any all round"
    " divmod ord chr repr isinstance float frozenset pow bin"
).split()
_METHODS = (
    "append extend insert remove pop sort index count get update setdefault add discard union intersection difference"
    " issubset strip lstrip rstrip split rsplit join replace startswith endswith find rfind center ljust rjust zfill"
    " partition removeprefix removesuffix format"
).split()
_BARE_METHODS = (
    "upper lower title capitalize swapcase isdigit isalpha isalnum isupper islower isspace items keys values copy"
    " reverse clear strip split sort pop"
).split()
_OPERATORS = "== != <= >= // ** << >> += -= *= //= %= -> :=".split()
_CLOSED = ("[::-1]", "[1:]", "[:-1]", "[-1]", "[0]", "[1]", "[]", "()", "{}", "''")

# (text, class as the next atom, bracket it opens, class as the previous atom)
_TABLE = (
    [("def f(", _WORD, "(", _TIGHT)]
    + [(word, _KEYWORD, "", _WIDE) for word in _KEYWORDS]
    + [(word, _WORD, "", _WORD) for word in _OPERAND_WORDS]
    + [(f"{word}(", _WORD, "(", _TIGHT) for word in _CALLS]
    + [(f".{word}(", _NONE, "(", _TIGHT) for word in _METHODS]
    + [(f".{word}()", _NONE, "", _CLOSE) for word in _BARE_METHODS]
    + [(word, _BINARY, "", _WIDE) for word in _OPERATORS]
    + [(word, _START, "", _CLOSE) for word in _CLOSED]
    + [("[:", _START, "[", _TIGHT), (":]", _NONE, "]", _CLOSE)]
    + [(word, _NONE, "", _TIGHT) for word in traces.STARTS]
)
assert _WORDS + len(_TABLE) <= VOCAB_SIZE
_ID = {text: _WORDS + i for i, (text, *_) in enumerate(_TABLE)}
_LINE_IDS = frozenset(_ID[word] for word in traces.STARTS)

_RULED = {_KEYWORD, _WORD, _BINARY}
_SPACE = {  # previous atom's class → classes of the next atom that stand one space away from it
    _TIGHT: frozenset[int](),
    _WIDE: frozenset({_NAME, _WORD, _KEYWORD, _START, _BINARY}),
    _NAME: frozenset(_RULED),
    _WORD: frozenset(_RULED | {_NAME}),
    _CLOSE: frozenset({_KEYWORD, _BINARY}),
}
_OPERANDS = frozenset({_NAME, _WORD, _CLOSE})


def _byte_class(byte: int) -> int:
    char = chr(byte)
    if byte < 128 and (char.isalnum() or char == "_"):
        return _NAME
    if char in "'\"([{~":
        return _START
    return _BINARY if char in "+-*/%<>=&|^@" else _NONE


_SPACE_ID, _NEWLINE_ID = _BYTES + ord(" "), _BYTES + ord("\n")
_NEXT = [_NONE] * _BYTES + [_byte_class(b) for b in range(256)] + [entry[1] for entry in _TABLE]
_NEXT += [_NONE] * (VOCAB_SIZE - len(_NEXT))
_TEXT = [b""] * VOCAB_SIZE
for _i, _name in enumerate(_TAGS):
    _TEXT[_i] = _name.encode()
for _i in range(256):
    _TEXT[_BYTES + _i] = bytes([_i])
for _i, _entry in enumerate(_TABLE):
    _TEXT[_WORDS + _i] = _entry[0].encode()


class _Layout:
    """The state of the spacing rule: a function of the ids so far, the same in both directions."""

    __slots__ = ("brackets", "digits", "level", "quote", "skip", "suppress", "tight", "was")

    def __init__(self) -> None:
        self.level = 0  # indentation of the line, in units of four spaces
        self.suppress = False  # an explicit space or GLUE stands before the next atom
        self.line()

    def line(self) -> None:
        """Starts a line, or an item of a trace: no brackets, no string, nothing to keep apart from."""
        self.was = _TIGHT
        self.brackets: list[str] = []
        self.quote = 0  # byte that ends the open string, 0 outside strings
        self.skip = False  # the byte before was a backslash in a string
        self.digits = True  # only digits on this line so far
        self.tight = False  # after the start of a trace's item: the next '=' stands without spaces

    def spaced(self, token: int) -> bool:
        """Whether the rule puts a space before `token`."""
        if self.suppress or self.quote:
            return False
        kind = _NEXT[token]
        if self._keyword_equals(token):
            return False
        if kind == _BINARY and self.was not in _OPERANDS:
            kind = _START  # a sign, not an operator between two operands
        return kind in _SPACE[self.was]

    def _keyword_equals(self, token: int) -> bool:
        return token == _EQUALS and (self.tight or (bool(self.brackets) and self.brackets[-1] == "("))

    def feed(self, token: int) -> None:
        """Moves on over one id."""
        self.suppress = token == GLUE or (token == _SPACE_ID and not self.quote)
        if self.suppress:
            return
        if token < _BYTES:
            self._feed_tag(token)
        elif token < _WORDS:
            self._feed_byte(token - _BYTES, token)
        elif token < _WORDS + len(_TABLE):
            self._feed_word(token)

    def _feed_tag(self, token: int) -> None:
        if token == DEDENT:
            self.level = max(0, self.level - 1)
            return
        if token == INDENT:
            self.level = min(MAX_LEVEL, self.level + 1)
        elif token != NEWLINE:
            self.level = 0
        self.line()

    def _feed_byte(self, byte: int, token: int) -> None:
        if byte == 10:
            self.line()
        elif self.quote:
            if not self.skip and byte == self.quote:
                self.quote, self.was = 0, _CLOSE
            self.skip = not self.skip and byte == 92
        elif byte == _ITEM_END and not self.brackets:
            self.line()
        else:
            self.was = self._after_byte(byte, token)
            self.digits = self.digits and 48 <= byte <= 57

    def _after_byte(self, byte: int, token: int) -> int:
        kind, char = _NEXT[token], chr(byte)
        if kind == _NAME:
            return _NAME
        if char in "'\"":
            self.quote, self.skip = byte, False
            return _TIGHT
        if char in "([{":
            self.brackets.append(char)
            return _TIGHT
        if char in ")]}":
            if self.brackets:
                self.brackets.pop()
            return _CLOSE
        if char == ":":
            return self._after_colon()
        if char == ",":
            return _WIDE
        if kind == _BINARY and self.was in _OPERANDS and not self._keyword_equals(token):
            return _WIDE
        return _TIGHT

    def _after_colon(self) -> int:
        if self.digits and self.was == _NAME:
            self.tight = True
            return _TIGHT
        return _TIGHT if self.brackets and self.brackets[-1] == "[" else _WIDE

    def _feed_word(self, token: int) -> None:
        _, kind, bracket, after = _TABLE[token - _WORDS]
        if self.quote:  # never written by encode; a model may
            return
        if bracket == "]":
            if self.brackets:
                self.brackets.pop()
        elif bracket:
            self.brackets.append(bracket)
        if token in _LINE_IDS:
            self.tight = True
        unary = kind == _BINARY and self.was not in _OPERANDS
        self.was = _TIGHT if unary else after
        self.digits = False


_EQUALS = _BYTES + ord(traces.ASSIGN)  # also of keyword arguments
_ITEM_END = ord(traces.END)
_IDENTIFIER = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_PAIR = re.compile(rb"(?:not in|is not)(?![A-Za-z0-9_])")
_METHOD = re.compile(rb"\.[a-z]+\((?:\))?")
_PUNCTUATION = sorted(
    (text.encode() for text in [*_OPERATORS, *_CLOSED, "[:", ":]"]),
    key=lambda text: (-len(text), text),
)
_BY_FIRST = {first: tuple(t for t in _PUNCTUATION if t[0] == first) for first in {t[0] for t in _PUNCTUATION}}
_BYTES_ID = {text.encode(): token for text, token in _ID.items()}


def _identifier(data: bytes, at: int) -> tuple[list[int], int]:
    """Ids and end of the identifier, keyword or call that starts at `at`."""
    if data.startswith(b"def f(", at):
        return [_ID["def f("]], at + 6
    pair = _PAIR.match(data, at)
    if pair:
        return [_BYTES_ID[pair.group()]], pair.end()
    match = _IDENTIFIER.match(data, at)
    assert match is not None
    word, end = match.group(), match.end()
    call = _BYTES_ID.get(word + b"(") if data[end : end + 1] == b"(" else None
    if call is not None:
        return [call], end + 1
    known = _BYTES_ID.get(word)
    return ([known] if known is not None else [_BYTES + b for b in word]), end


def _atom(data: bytes, at: int, layout: _Layout) -> tuple[list[int], int]:
    """Ids and end of the atom that starts at `at`, outside strings and away from line ends."""
    byte = data[at]
    if layout.quote:
        return [_BYTES + byte], at + 1
    if _NEXT[_BYTES + byte] == _NAME:
        if not 48 <= byte <= 57:
            return _identifier(data, at)
        line = _BYTES_ID.get(data[at : at + 2]) if layout.digits and layout.was == _TIGHT else None
        return ([line], at + 2) if line is not None else ([_BYTES + byte], at + 1)
    if byte == 46:
        match = _METHOD.match(data, at)
        if match:
            text = match.group()
            for form in (text, text[:-1]):
                if form in _BYTES_ID:
                    return [_BYTES_ID[form]], at + len(form)
    for text in _BY_FIRST.get(byte, ()):
        if data.startswith(text, at):
            return [_BYTES_ID[text]], at + len(text)
    return [_BYTES + byte], at + 1


_LINE = re.compile(rb"\n( *)(?=[^ \n])")


def _line_end(data: bytes, at: int, level: int) -> tuple[list[int], int]:
    """Ids and end of the line end at `at` (``\\n`` or ``:\\n``) with the indentation that follows; ([], at) if none."""
    colon = data[at] == 58
    match = _LINE.match(data, at + colon)
    if match and len(match.group(1)) % 4 == 0:
        deeper = len(match.group(1)) // 4 - level
        if colon and deeper == 1 and level < MAX_LEVEL:
            return [INDENT], match.end()
        if not colon and deeper <= 0:
            return [DEDENT] * -deeper + [NEWLINE], match.end()
    return ([], at) if colon else ([_NEWLINE_ID], at + 1)


def encode(text: str) -> list[int]:
    """Ids of `text`; ``decode(encode(text)) == text`` for every text without surrogates.

    Raises UnicodeEncodeError for a text that has no UTF-8 form.
    """
    data = text.encode()
    layout = _Layout()
    ids: list[int] = []
    at, end = 0, len(data)
    while at < end:
        new: list[int] = []
        byte = data[at]
        if layout.quote and not layout.skip and byte not in (10, 92, layout.quote):
            ids.append(_BYTES + byte)  # inside a string the rest would come to the same, more slowly
            at += 1
            continue
        if byte == 10 or (byte == 58 and data[at + 1 : at + 2] == b"\n" and not layout.quote):
            new, after = _line_end(data, at, layout.level)
        if not new:
            space = byte == 32 and at + 1 < end and data[at + 1] not in b" \n"
            new, after = _atom(data, at + space, layout)
            if layout.spaced(new[0]) != space:
                new, after = ([_SPACE_ID], at + 1) if space else ([GLUE, *new], after)
        for token in new:
            layout.feed(token)
        ids += new
        at = after
    return ids


def decode(ids: Sequence[int]) -> str:
    """Text of any id sequence: tags by name (`<in>`), invalid UTF-8 and foreign ids as U+FFFD. Never raises."""
    layout = _Layout()
    out = bytearray()
    for token in map(int, ids):
        if not 0 <= token < VOCAB_SIZE:
            out += b"\xff"
            continue
        if layout.spaced(token):
            out += b" "
        layout.feed(token)
        if token == NEWLINE:
            out += b"\n" + b"    " * layout.level
        elif token == INDENT:
            out += b":\n" + b"    " * layout.level
        else:
            out += _TEXT[token]
    return out.decode(errors="replace")
