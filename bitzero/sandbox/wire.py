"""Length-prefixed byte fields: the only format that crosses a pipe of the sandbox."""

import struct

_LENGTH = struct.Struct("<I")


class Torn(ValueError):
    """Bytes that are not a whole list of fields."""


def pack(fields: list[bytes]) -> bytes:
    """One message: u32 size of the rest, then each field as u32 length and bytes."""
    body = b"".join(_LENGTH.pack(len(field)) + field for field in fields)
    return _LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> list[bytes]:
    """The fields of a message without its leading size. Raises ``Torn``."""
    fields = []
    at = 0
    while at < len(body):
        if at + 4 > len(body):
            raise Torn("length")
        (size,) = _LENGTH.unpack_from(body, at)
        at += 4
        if at + size > len(body):
            raise Torn("field")
        fields.append(body[at : at + size])
        at += size
    return fields


def split(buffer: bytes) -> tuple[list[bytes], bytes]:
    """Whole message bodies at the head of ``buffer``, and the bytes left over."""
    bodies = []
    at = 0
    while at + 4 <= len(buffer):
        (size,) = _LENGTH.unpack_from(buffer, at)
        if at + 4 + size > len(buffer):
            break
        bodies.append(buffer[at + 4 : at + 4 + size])
        at += 4 + size
    return bodies, buffer[at:]
