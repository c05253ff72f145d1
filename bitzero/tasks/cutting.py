"""Cutting text at a separator by brackets and quotes alone: nobody evaluates what a model wrote."""


def cut_outside(text: str, separator: str) -> list[str] | None:
    """The pieces of ``text`` between separators that stand in no bracket and no quotes; None if these do not match."""
    pieces, start, depth, quote, skip = [], 0, 0, "", False
    for at, char in enumerate(text):
        if quote:
            if skip:
                skip = False
            elif char == "\\":
                skip = True
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth < 0:
                return None
        elif char == separator and not depth:
            pieces.append(text[start:at])
            start = at + 1
    return None if quote or depth else [*pieces, text[start:]]
