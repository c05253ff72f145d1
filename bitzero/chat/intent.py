"""What a person's text asks for, by a small grammar; pure, and nothing of the text is run here.

    question   = functions call              what does it return?           def f(a): return a + 1
                                                                            f(3)
               | functions wanted            which input leads there?       …
                                                                            f(?) == 4
               | pair, pair …                which function does that?      1 -> 2, 5 -> 10
               | functions                   is remembered under its name
               | expression                  Python's value of it
    call       = name(literals) [== ? | -> ?]
    wanted     = name(?) == literal  |  == literal  |  -> literal  |  literal
    pair       = literals -> literal         several arguments with commas: 1, 2 -> 3; 5, 1 -> 6

A call or a wanted value stands on a line of its own below the functions, or on the function's own line after a `;`.
It may also stand alone: then it is about a function that is remembered. Pairs are separated by `;` or line ends, or by
commas where every function has one argument. Text is shaped with ``ast.parse``, which runs nothing, up to
``MAX_CHARS`` characters; what fits nowhere gets a sentence that says what would.
"""

import ast
import re
import warnings
from dataclasses import dataclass

from bitzero.tasks.cutting import cut_outside

MAX_CHARS = 16_000  # what the sandbox takes as a program; the parser of a longer text could take the process with it
_ASKED = re.compile(r"\s*(?:==?|->|=>|→)\s*\?\s*$")
_UNKNOWN = re.compile(r"^([A-Za-z_]\w*)\s*\(\s*\?\s*\)\s*(?:==?|->|=>|→)\s*(.+)$", re.DOTALL)
_BARE_WANTED = re.compile(r"^(?:==|->|=>|→)\s*(.+)$", re.DOTALL)
_REVERSED = re.compile(r"^(.+?)\s*==\s*([A-Za-z_]\w*)\s*\(\s*\?\s*\)$", re.DOTALL)
_ARROW = re.compile(r"->|=>|→")
_DEF = re.compile(r"^\s*def\b", re.MULTILINE)
_CLOSES = re.compile(r"[)\]}'\"]")
_FIRST_LINE = re.compile(r"^\s*(?:def|async|class|@|for|while|if|import|from|lambda)\b")


@dataclass(frozen=True, kw_only=True)
class CallQuestion:
    """What does this call return?"""

    source: str  # function definitions as typed; '' where the function is one that is remembered
    name: str
    args: str  # an argument list


@dataclass(frozen=True, kw_only=True)
class InputQuestion:
    """Which input leads to this value?"""

    source: str
    name: str  # '' where none was named: the last function
    value: str  # a literal


@dataclass(frozen=True, kw_only=True)
class PairsQuestion:
    """Which function has these pairs?"""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """Functions to be remembered."""

    source: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ValueQuestion:
    """A value to be computed."""

    text: str


@dataclass(frozen=True, kw_only=True)
class NotUnderstood:
    """A text that the grammar has no place for, and what would be understood instead."""

    hint: str


Question = CallQuestion | InputQuestion | PairsQuestion | Definition | ValueQuestion | NotUnderstood


def understand(text: str) -> Question:
    """The question that ``text`` asks. Never raises."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4).strip("\n").rstrip()
    if not text.strip():
        return NotUnderstood(hint="nothing was asked; /help shows what can be")
    if len(text) > MAX_CHARS:
        return NotUnderstood(
            hint=f"{len(text):,} characters are too many, {MAX_CHARS:,} are the most; ask a part of it"
        )
    if broken := _unwritable(text):
        return NotUnderstood(hint=broken)
    try:
        return _with_functions(text) if _DEF.search(text) else _without_functions(text.strip())
    except (RecursionError, MemoryError):
        return NotUnderstood(hint="it is nested too deeply to be read; ask a smaller one")
    except ValueError:  # Python writes no number of more than 4,300 digits, which `0xff…` may be
        return NotUnderstood(hint="a number in it has too many digits to be written out; ask with a smaller one")


def is_complete(text: str) -> bool:
    """Whether Enter ends the question: not inside a function's body, nor inside brackets that one line opened."""
    lines = text.split("\n")
    if not _FIRST_LINE.match(lines[0]):
        return cut_outside(text, "\n") is not None or (len(lines) > 1 and not lines[-1].strip())
    last = lines[-1]
    if not last.strip():
        return True
    return not (last.rstrip().endswith(":") or last[:1].isspace() or cut_outside(text, "\n") is None or last[:1] == "@")


def stays_open(text: str, line: str) -> bool:
    """Whether a text that was not complete is not with this line either, told by a look at the line alone."""
    return bool(line.strip()) and not _FIRST_LINE.match(text) and not _CLOSES.search(line)


# ---- with a function before it ----


def _with_functions(text: str) -> Question:
    functions, rest = _split_source(text)
    tree = _module(functions)
    if isinstance(tree, str):
        return NotUnderstood(hint=f"this is not Python: {tree}")
    names = tuple(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    strangers = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    if strangers or not names:
        line = strangers[0].lineno if strangers else 1
        return NotUnderstood(hint=f"line {line}: only functions (def …) may stand before the question")
    if not rest:
        return Definition(source=functions, names=names)
    return _about(rest, functions, names)


def _about(rest: str, functions: str, names: tuple[str, ...]) -> Question:
    """The question in the text after the functions."""
    rest = _printed(rest)
    asked = _without_functions(rest)
    if isinstance(asked, CallQuestion | InputQuestion) and asked.name and asked.name not in names:
        return NotUnderstood(hint=f"{asked.name} is not defined here; the functions are {', '.join(names)}")
    if isinstance(asked, CallQuestion):
        return CallQuestion(source=functions, name=asked.name, args=asked.args)
    if isinstance(asked, InputQuestion):
        return InputQuestion(source=functions, name=asked.name or names[-1], value=asked.value)
    if isinstance(asked, ValueQuestion) and _literal(rest) is not None:
        return InputQuestion(source=functions, name=names[-1], value=rest)
    if isinstance(asked, NotUnderstood):
        return asked
    return NotUnderstood(
        hint=f"below a function goes one call with values, {names[-1]}(3), or a result to reach, {names[-1]}(?) == 4"
    )


def _split_source(text: str) -> tuple[str, str]:
    """The function definitions, and the text after them: the last lines that are not indented, or after a `;`."""
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if _DEF.match(line))
    if start:
        return text, ""  # something stands before the first function: not Python, or a stranger
    cut = len(lines)
    while cut > 1 and not (lines[cut - 1][:1].isspace() and lines[cut - 1].strip()) and not _DEF.match(lines[cut - 1]):
        cut -= 1
    rest = "\n".join(lines[cut:]).strip()
    functions = "\n".join(lines[:cut]).rstrip()
    if rest:
        return functions, rest
    head, last = lines[:cut], lines[cut - 1]
    pieces = cut_outside(last, ";") or [last]
    if len(pieces) > 1 and _DEF.match(last):
        return "\n".join([*head[:-1], ";".join(pieces[:-1]).rstrip()]), pieces[-1].strip()
    return functions, ""


def _printed(rest: str) -> str:
    """What ``print(...)`` shows is what is asked for."""
    match = re.fullmatch(r"print\((.*)\)", rest.strip(), re.DOTALL)
    return match[1] if match else rest.strip()


# ---- without one ----


def _without_functions(text: str) -> Question:
    if match := _UNKNOWN.match(text):
        return _wanted(match[1], match[2])
    if match := _REVERSED.match(text):
        return _wanted(match[2], match[1])
    if match := _BARE_WANTED.match(text):
        return _wanted("", match[1])
    asked = _ASKED.sub("", text)
    call = _call(asked)
    if call and call[0] not in _BUILTINS:
        return CallQuestion(source="", name=call[0], args=call[1])
    if asked == text and _ARROW.search(text) and (pairs := _pairs(text)):
        return pairs
    return _expression(asked, text)


def _wanted(name: str, value: str) -> Question:
    if _literal(value) is None:
        return NotUnderstood(
            hint=f"{_short(value)} is not a plain value such as 4, 'ab' or [1, 2]; write {name}(?) == 4"
        )
    return InputQuestion(source="", name=name, value=value.strip())


def _call(text: str) -> tuple[str, str] | None:
    """Name and argument list of a call with literal arguments alone; None for anything else."""
    call = _body(text)
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    if any(keyword.arg is None for keyword in call.keywords):
        return None
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    if any(_value(node) is None for node in values):
        return None
    named = [f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in call.keywords]
    return call.func.id, ", ".join([*map(ast.unparse, call.args), *named])


def _pairs(text: str) -> Question | None:
    """Pairs of inputs and outputs. None where the arrows are no pairs' at all."""
    pieces = cut_outside(text.replace("\n", ";"), ";")
    if pieces is None:
        return NotUnderstood(hint="brackets or quotes of the examples do not match")
    pieces = [piece.strip() for piece in pieces if piece.strip()]
    if len(pieces) == 1:
        pieces = _at_commas(pieces[0])
    found = [_pair(piece) for piece in pieces]
    for piece, pair in zip(pieces, found, strict=True):
        if pair is None:
            return NotUnderstood(hint=f"{_short(piece)} is no example; one is written 5 -> 10, or 1, 2 -> 3; 5, 1 -> 6")
    pairs = [pair for pair in found if pair]
    if len({count for _, _, count in pairs}) > 1:
        return NotUnderstood(hint="the examples have different numbers of inputs; separate examples by ;")
    known: dict[str, str] = {}
    for given, value, _ in pairs:
        if known.setdefault(given, value) != value:
            return NotUnderstood(hint=f"{given} leads to {known[given]} and to {value}: no function does both")
    if len(known) < 2:
        return NotUnderstood(hint="one example fits countless functions; give two or more: 1 -> 2, 5 -> 10")
    return PairsQuestion(inputs=tuple(known), outputs=tuple(known.values()))


def _at_commas(text: str) -> list[str]:
    """Examples of one argument that commas separate; the whole where a piece between commas has no arrow."""
    pieces = cut_outside(text, ",") or [text]
    return [piece.strip() for piece in pieces] if all(_ARROW.search(piece) for piece in pieces) else [text]


def _pair(text: str) -> tuple[str, str, int] | None:
    """Argument list, value, and number of arguments."""
    sides = _ARROW.split(text)
    if len(sides) != 2 or not all(side.strip() for side in sides):
        return None
    call = _call(f"f({sides[0].strip()})") or _call(f"f{sides[0].strip()}")
    value = _literal(sides[1])
    if call is None or value is None or not call[1]:
        return None
    given = _call(sides[0].strip())  # f(1) -> 2 is as good as 1 -> 2
    args = given[1] if given else call[1]
    return args, value, len(cut_outside(args, ",") or ())


def _expression(asked: str, text: str) -> Question:
    tree = _body(asked)
    if not isinstance(tree, str):
        return ValueQuestion(text=asked.strip())
    if match := re.match(r"^([A-Za-z_]\w*)\s*(?:=|:=)\s*\S", text):
        return NotUnderstood(hint=f"variables are not kept; write it as a function: def {match[1]}(a): return …")
    if text.lstrip().startswith(("def", "fed", "function", "fn ", "func ")):
        return NotUnderstood(hint="a function is written def f(a): return a + 1, and on the next line f(3)")
    if _FIRST_LINE.match(text):
        return NotUnderstood(hint="statements stand in a function: def f(a): … return …, and on the next line f(3)")
    if _ARROW.search(text):
        return NotUnderstood(
            hint="examples are written 1 -> 2, 5 -> 10 with Python's values; texts in quotes: 'ab' -> 'ba'"
        )
    if len(text.split()) > 2 and re.fullmatch(r"[\w\s,.'!?-]+", text):
        return NotUnderstood(hint="this model never read English, only Python; /help shows six questions that work")
    if "?" in text:
        return NotUnderstood(hint="? stands for what is not known: f(3) == ?, or f(?) == 4; define f first")
    return NotUnderstood(hint=f"this is not Python: {tree}; /help shows what can be asked")


# ---- small looks at text ----

_BUILTINS = frozenset(
    "abs all any ascii bin bool bytes chr complex dict divmod enumerate filter float format frozenset hex int len list "
    "map max min oct ord pow range repr reversed round set slice sorted str sum tuple type zip".split()
)


def _module(text: str) -> ast.Module | str:
    """The tree of a text, or in a few words why it has none."""
    tree = _parsed(text, "exec")
    return tree if isinstance(tree, ast.Module | str) else "it is no program"


def _body(text: str) -> ast.expr | str:
    """The tree of a single expression, or in a few words why there is none."""
    tree = _parsed(text.strip(), "eval")
    return tree.body if isinstance(tree, ast.Expression) else tree if isinstance(tree, str) else "it is no expression"


def _parsed(text: str, mode: str) -> ast.AST | str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in the person's strings
            return ast.parse(text, mode=mode)
    except SyntaxError as error:
        where = f" (line {error.lineno})" if error.lineno and "\n" in text else ""
        return f"{error.msg}{where}"
    except (ValueError, RecursionError, MemoryError):
        return "it is nested too deeply to be read"


def _value(node: ast.AST) -> ast.AST | None:
    """The node, if it stands for a literal."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return node


def _literal(text: str) -> str | None:
    """The text of exactly one literal as Python writes it; None for anything else."""
    tree = _body(text)
    return None if isinstance(tree, str) or _value(tree) is None else ast.unparse(tree)


def _unwritable(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "the text holds bytes that are no UTF-8; type it again"
    strange = next((char for char in text if not char.isprintable() and char not in "\n "), None)
    return f"the text holds the control character {strange!r}; type it again without" if strange else None


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 40 else f"{flat[:37]}…"
