"""Length-prefixed fields: what is packed comes back, whatever the pipe cuts it into."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitzero.sandbox.wire import Torn, pack, split, unpack

FIELDS = st.lists(st.binary(max_size=20), max_size=5)


def test_golden() -> None:
    assert pack([b"ab", b""]) == b"\x0a\0\0\0" + b"\x02\0\0\0ab" + b"\0\0\0\0"


@given(st.lists(FIELDS, max_size=4), st.integers(1, 9))
def test_messages_survive_any_cutting(messages: list[list[bytes]], piece: int) -> None:
    stream = b"".join(pack(fields) for fields in messages)
    buffer, seen = b"", []
    for start in range(0, len(stream), piece):
        bodies, buffer = split(buffer + stream[start : start + piece])
        seen += [unpack(body) for body in bodies]
    assert seen == messages and buffer == b""


@pytest.mark.parametrize("body", [b"\x01", b"\x05\0\0\0abc", b"\0\0\0\0\xff\xff\xff\xff"])
def test_torn(body: bytes) -> None:
    with pytest.raises(Torn):
        unpack(body)


@given(st.binary(max_size=40))
def test_any_bytes_are_fields_or_torn(body: bytes) -> None:
    try:
        fields = unpack(body)
    except Torn:
        return
    assert pack(fields)[4:] == body
