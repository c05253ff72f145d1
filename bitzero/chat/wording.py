"""How an answer reads: lines of text with a style each, and no character that could command a terminal."""

from bitzero.chat.answers import Answer, Step
from bitzero.chat.persona import Persona
from bitzero.tasks import traces

Line = tuple[str, str]  # text, style: one of plain, good, bad, faint, error


def printable(text: str) -> str:
    """The text with every character that could command a terminal written out."""
    return "".join(char if char.isprintable() or char == "\n" else _written_out(char) for char in text)


def _written_out(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode() if ord(char) > 126 else f"\\x{ord(char):02x}"


def step_line(step: Step) -> Line:
    """A step of a trace with Python's verdict beside it."""
    shown = traces.shown_item(step.text)
    if step.right is None:
        return f"    {shown}", "faint"
    if step.right:
        return f"  ✓ {shown}", "good"
    return f"  ✗ {shown}   Python: {traces.shown_item(step.python) if step.python else 'nothing more happens'}", "bad"


def answer_lines(answer: Answer, persona: Persona, verbosity: str) -> list[Line]:
    """The lines of an answer; its steps are not among them."""
    if answer.kind == "error":
        return [(answer.note or "", "error")]
    if answer.kind == "command":
        return [(answer.answer or "", "plain")]
    style = {True: "good", False: "bad", None: "plain"}[answer.right]
    lines = [(_result(answer, persona), style)]
    if answer.kind == "deduction" and answer.right is None and answer.answer is not None and answer.python:
        lines.append((f"Python: {answer.python}", "error"))  # a program that was not run to its end says why
    if answer.note and answer.answer is not None:
        lines.append((answer.note, "faint"))
    if verbosity != "short" and answer.votes:
        lines.append((f"samples: {_votes(answer.votes)}", "faint"))
    if verbosity == "long" and answer.right and answer.confidence is not None and answer.kind == "induction":
        lines.append(("the confidence is the chance that a further example comes out too", "faint"))
    if verbosity == "long" and answer.bits:
        bits = "the ternary weights alone" if answer.bits == "ternary" else "all bits"
        lines.append((f"{answer.seconds:.1f} s, answered with {bits}", "faint"))
    return lines


def _result(answer: Answer, persona: Persona) -> str:
    text = answer.answer or ""
    below = ""
    if "\n" in text and answer.kind == "induction":
        text, below = "the function below", f"\n{text}"
    values = {
        "answer": text, "python": answer.python, "tries": answer.tries, "confidence": answer.confidence,
        "votes": _votes(answer.votes), "note": answer.note,
    }  # fmt: skip
    match answer.kind:
        case "definition":
            return persona.phrase("defined", **values)
        case "expression":
            return persona.phrase("value", **values | {"answer": answer.answer or answer.python})
        case "puzzle":
            return persona.phrase("puzzle_right" if answer.right else "puzzle_wrong", **values)
    if answer.answer is None:
        said = persona.phrase("nothing", **values)
        return f"{said} Python: {answer.python}" if answer.python else said
    if answer.kind == "deduction":
        return persona.phrase({True: "right", False: "wrong", None: "unjudged"}[answer.right], **values)
    return persona.phrase("found" if answer.right else "guess", **values) + below


def _votes(votes: dict[str, float]) -> str:
    return ", ".join(f"{share:.0%} {answer}" for answer, share in votes.items())
