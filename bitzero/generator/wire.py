"""What crosses the pipe between trainer and worker: a JSON line a question; a JSON line and raw arrays an answer."""

import json
from typing import Any

import numpy as np


def send_answer(pipe: Any, head: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write an answer."""
    layout = [(name, value.dtype.str, value.shape) for name, value in arrays.items()]
    pipe.write(json.dumps({**head, "arrays": layout}).encode() + b"\n")
    for value in arrays.values():
        pipe.write(np.ascontiguousarray(value).tobytes())
    pipe.flush()


def receive_answer(pipe: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read an answer. Raises EOFError where the pipe ends first."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    arrays = {}
    for name, dtype, shape in head.pop("arrays"):
        count = int(np.prod(shape, dtype=np.int64))
        data = pipe.read(count * np.dtype(dtype).itemsize)
        if len(data) != count * np.dtype(dtype).itemsize:
            raise EOFError
        arrays[name] = np.frombuffer(data, dtype=dtype).reshape(shape)
    return head, arrays


def lists_to_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a program, a task or an order as JSON gives them, made hashable again."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
