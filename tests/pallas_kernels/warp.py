"""A warp of 32 lanes that executes the few PTX instructions of ``pallas_kernels/turing.py``, on arrays of NumPy."""

import re

import numpy as np

SPACE = 1 << 32  # distance between the addresses of two buffers


def run(text: str, buffers: list[np.ndarray], blocks: int, warps: int) -> None:
    """Executes a kernel for every warp of every block; ``buffers`` are its first parameters, changed in place."""
    body = text[text.index("{") + 1 : text.rindex("}")]
    program = [line.strip().rstrip(";") for line in body.splitlines() if line.strip() and ".reg" not in line]
    labels = {line[:-1]: at for at, line in enumerate(program) if line.endswith(":")}
    names = re.findall(r"\.param \.u64 (\w+)", text)
    memory = {index + 1: buffer.reshape(-1).view(np.uint32) for index, buffer in enumerate(buffers)}
    parameters = {name: (index + 1) * SPACE for index, name in enumerate(names)}
    for block in range(blocks):
        for warp in range(warps):
            lanes = np.arange(32, dtype=np.uint64)
            registers = {"%tid.x": lanes + 32 * warp, "%ctaid.x": np.full(32, block, np.uint64)}
            _execute(program, labels, registers, parameters, memory)


def _execute(program, labels, registers, parameters, memory):
    at = 0
    while at < len(program):
        line = program[at]
        at += 1
        if line.endswith(":"):
            continue
        predicate = re.match(r"@(%\w+) ", line)
        active = registers[predicate[1]].astype(bool) if predicate else np.ones(32, bool)
        line = line[predicate.end() :] if predicate else line
        name, _, rest = line.partition(" ")
        operands = [part.strip() for part in rest.split(",")] if rest else []
        if name == "ret":
            return
        if name == "bra":
            assert active.all() or not active.any(), "the warp diverges"
            at = labels[operands[0]] if active.all() else at
            continue
        if name.startswith("st.global"):
            for lane in np.flatnonzero(active):
                buffer, word = _place(operands[0], registers, lane)
                memory[buffer][word] = np.uint32(registers[operands[1]][lane] & 0xFFFFFFFF)
            continue
        old = registers.get(operands[0], np.zeros(32, np.uint64))
        new = _value(name, operands[1:], registers, parameters, memory, active)
        registers[operands[0]] = np.where(active, new.astype(np.uint64), old)


def _value(name, operands, registers, parameters, memory, active):
    if name == "ld.param.u64":
        return np.full(32, parameters[operands[0].strip("[]")], np.uint64)
    if name.startswith("ld.global"):
        found = np.zeros(32, np.uint64)
        for lane in np.flatnonzero(active):
            buffer, word = _place(operands[0], registers, lane)
            found[lane] = memory[buffer][word]
        return found
    a, *more = (registers[text] if text.startswith("%") else np.full(32, int(text, 0), np.uint64) for text in operands)
    low = np.uint64(0xFFFFFFFF)
    match name:
        case "mov.u32" | "cvta.to.global.u64":
            return a
        case "and.b32":
            return a & more[0]
        case "shr.u32":
            return a >> more[0]
        case "add.u64":
            return a + more[0]
        case "add.u32" | "add.s32":
            return (a + more[0]) & low
        case "mad.lo.u32":
            return (a * more[0] + more[1]) & low
        case "mad.wide.u32":
            return a * more[0] + more[1]
        case "setp.lt.u32":
            return a < more[0]
        case "setp.eq.u32":
            return a == more[0]
        case "shfl.sync.bfly.b32":
            return a[np.arange(32) ^ int(more[0][0])]
        case "dp4a.u32.s32":
            codes = a.astype(np.uint32)[:, None].view(np.uint8).astype(np.int64)
            x = more[0].astype(np.uint32)[:, None].view(np.int8).astype(np.int64)
            return ((codes * x).sum(axis=1) + more[1].astype(np.int64)).astype(np.uint64) & low
    raise ValueError(f"no such instruction here: {name}")


def _place(text, registers, lane):
    """Buffer and word of ``[%register+offset]``."""
    register, _, offset = text.strip("[]").partition("+")
    address = int(registers[register][lane]) + int(offset or 0)
    assert address % 4 == 0
    return address // SPACE, address % SPACE // 4
