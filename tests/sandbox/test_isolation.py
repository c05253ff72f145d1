"""A program sees its one input and nothing else: no other input, job or result, whatever the language lets through.

The sandboxes here look at no program before it runs (``open_box``), so what holds is held below the language.
"""

import contextlib
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitzero.sandbox import Job, Limits, Outcome, Sandbox, SandboxUnavailable, literal_job
from bitzero.sandbox import process as process_module
from tests.sandbox.test_faults import children, occurrences

# JAX warns of forks in a process with threads; these children run nothing of it.
FORKS = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

ANY_PROGRAM = """
import ast, builtins, marshal
from bitzero.sandbox import fuel, namespace, pages, reader
def code(text, _):
    tree = ast.parse(text)
    fuel.instrument(list(ast.walk(tree)))
    compiled = marshal.dumps(compile(tree, "<program>", "exec"))
    return pages.READY, False, marshal.dumps((False, [], [], compiled))
reader.READ[pages.CODE] = code
namespace.PLAIN.update(vars(builtins) | {"__import__": namespace.PLAIN["__import__"], "print": lambda *_, **__: None})
namespace.CONTENTS.update({name: vars(sys.modules[name]) for name in namespace.CONTENTS})
"""
MODULES = """
def modules():
    for kind in ().__class__.__base__.__subclasses__():
        if kind.__name__ == 'Sandbox' or kind.__name__ == 'Zygote':
            return kind.__init__.__globals__['sys'].modules
"""


@pytest.fixture(scope="module")
def open_box() -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        last = "zygote.main(sys.argv[2:])\n"
        assert process_module._BOOT.endswith(last)
        patch.setattr(process_module, "_BOOT", process_module._BOOT.removesuffix(last) + ANY_PROGRAM + last)
        with Sandbox(Limits(fuel=1_000_000, cpu_s=1.0), workers=2, cache=0) as box:
            for seed in range(3, 9):
                box.pools.of(seed)
            yield box


def run(box: Sandbox, code: str, *inputs: str) -> list[Outcome]:
    [outcomes] = box.run([Job(id=0, code=code, inputs=inputs)])
    return outcomes


# ---- state ----

CROSSING = {
    "an attribute of a built-in": "print.n = getattr(print, 'n', 0) + 1\n    return 19 if print.n > 7 else a * 3 + 4",
    "a mode set by the first input": "print.m = getattr(print, 'm', a in (5, ''))\n    return 0 if print.m else a",
    "an attribute of a library function": (
        "import heapq\n    heapq.merge.n = getattr(heapq.merge, 'n', 0) + a\n    return heapq.merge.n"
    ),
    "an attribute of a library class": (
        "import collections\n    c = collections.Counter\n    c.n = getattr(c, 'n', 0) + a\n    return c.n"
    ),
    "a class attribute that methods read": (
        "import string\n    s = string.Template.delimiter\n    string.Template.delimiter = '%'\n    return s"
    ),
    "a default of a library function": (
        "import collections\n    n = collections.namedtuple\n    seen = (n.__kwdefaults__ or {}).get('module')\n"
        "    n.__kwdefaults__ = {'module': str(a)}\n    return seen"
    ),
    "a registration": (
        "import collections.abc as c\n    seen = isinstance(1, c.Sized)\n    c.Sized.register(int)\n    return seen"
    ),
    "the built-ins, item by item": (
        "b = __builtins__\n    n = b.get('n', 0) if type(b) is dict else 0\n    b['n'] = n + 1\n    return n"
    ),
    "the built-ins, merged": (
        "global __builtins__\n    n = len(__builtins__)\n    __builtins__ |= {str(a): 1}\n    return n"
    ),
    "a module": "import math\n    n = getattr(math, 'n', 0)\n    math.n = a\n    return n",
    "a module behind the copies": (
        f"m = modules()['math']\n    n = getattr(m, 'n', 0)\n    m.n = a\n    return n{MODULES}"
    ),
    "a compiled pattern": (
        "import re\n    n = len(re.compile.__globals__['_cache'])\n    re.compile('x' * a)\n    return n"
    ),
    "memory": "x = print\n    try: x.m = [b'x' * 200_000_000]\n    except MemoryError: return -1\n    return 1",
    "the recursion limit": (
        f"s = modules()['sys']\n    n = s.getrecursionlimit()\n    s.setrecursionlimit(n + 99)\n    return n{MODULES}"
    ),
    "an exit hook": (
        f"s = modules()['sys']\n    h = s.excepthook.__class__.__name__\n    s.excepthook = None\n    return h{MODULES}"
    ),
    "an interned string": (
        f"s = modules()['sys']\n    k = 'zq' + 'ww' * 3\n    return k is s.intern(''.join(list(k)))\n{MODULES}"
    ),
    "the fuel": "for _ in range(3000): pass\n    return a",
}


@pytest.mark.parametrize("body", CROSSING.values(), ids=CROSSING.keys())
def test_an_input_leaves_nothing_to_the_next(open_box: Sandbox, body: str) -> None:
    inputs = ("5", "1", "2", "5", "5", "5", "3", "5", "5")
    code = f"def f(a):\n    {body}"
    together = run(open_box, code, *inputs)
    alone = [run(open_box, code, text)[0] for text in inputs]
    assert [(o.kind, o.value, o.exc) for o in together] == [(o.kind, o.value, o.exc) for o in alone]
    assert {o.kind for o in together} <= {"ok", "exception"}
    assert [o.value for o in together if o.value] or body.startswith("global")
    checked = open_box.validate([Job(id=0, code=code, inputs=inputs)])[0]
    assert [o.value for o in checked] == [o.value for o in together]


def test_a_death_leaves_nothing_to_the_next(open_box: Sandbox) -> None:
    code = (
        "def f(a):\n    print.n = getattr(print, 'n', 0) + 1\n"
        "    if a == 1:\n        while True: pass\n    if a == 2: return sum(iter(int, 1))\n"
        "    if a == 3: return [b'a' * 10**9]\n    if a == 4: return 1 // 0\n    return print.n"
    )
    outcomes = run(open_box, code, "0", "1", "0", "2", "0", "3", "0", "4", "0")
    assert [o.kind for o in outcomes[1::2]] == ["timeout", "timeout", "memory", "exception"]
    assert [o.value for o in outcomes[::2]] == ["1"] * 5


def test_inputs_are_new_objects_each_time(open_box: Sandbox) -> None:
    outcomes = run(open_box, "def f(a, b={}):\n    a.append(len(a))\n    b[len(b)] = 1\n    return a, b", *["[7]"] * 3)
    assert [o.value for o in outcomes] == ["([7, 1], {0: 1})"] * 3


# ---- sight ----

SECRETS = ("brightwater", "coldharbour", "mossgatherer", "ferrymaster", "lanternfish")
PATHS = [
    "{0.__globals__[tick ].__self__.task.inputs}",
    "{0.__globals__[tick ].__self__}",
    "{0.__globals__[tick ].__self__.left}",
    "{0.__globals__[tick ].__self__.messages}",
    "{0.__globals__[tick ].__self__.started_us}",
    "{0.__globals__[__builtins__][getattr].__self__.results.task}",
    "{0.__globals__[__builtins__][getattr].__self__.results.ticks}",
    "{0.__globals__[__builtins__][getattr].__self__.source}",
    "{0.__globals__[__builtins__][getattr].__self__.kept}",
    "{0.__globals__[__builtins__][getattr].__globals__}",
    "{0.__globals__[__builtins__][getattr].__func__.__globals__}",
    "{0.__globals__[__builtins__][__import__].__closure__}",
    "{0.__globals__[__builtins__][__import__].__closure__[1].cell_contents.results.__dict__}",
    "{0.__globals__}",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_the_job(open_box: Sandbox, path: str) -> None:
    """Attributes and items alone, as ``str.format`` follows them."""
    code = f"def f(a):\n    try: return {path!r}.format(f)\n    except (AttributeError, KeyError, TypeError): return ''"
    inputs = [repr(secret) for secret in SECRETS]
    for own, outcome in zip(SECRETS, run(open_box, code, *inputs), strict=True):
        assert outcome.kind in ("ok", "oversize") or outcome.detail == "repr of an address"
        assert not [other for other in SECRETS if other != own and other in (outcome.value or "")]
        assert "repeat(" not in (outcome.value or "") and "count(" not in (outcome.value or "")


WALKER = """
def f(secret, words):
    m = modules()
    frame = m['sys']._getframe()
    pending = list(m['gc'].get_objects()) + list(m.values())
    while frame is not None:
        pending += list(frame.f_locals.values())
        frame = frame.f_back
    seen, found = set(), set()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if type(item) in (str, bytes):
            text = item if type(item) is str else item.decode('latin-1')
            found |= {word for word in words if word[::-1] in text}
        elif type(item) in (list, tuple, set, frozenset):
            pending += list(item)
        elif type(item) is dict:
            pending += list(item) + list(item.values())
        else:
            pending += list(m['gc'].get_referents(item))
    return sorted(found), len(seen) > 1000
"""


def test_a_walk_over_every_object_finds_no_other_input(open_box: Sandbox) -> None:
    """Frames, modules, the collector's objects: all that the interpreter can reach from inside."""
    spied = ", ".join(repr(secret[::-1]) for secret in SECRETS)  # backwards, or each input would hold them all
    code = MODULES + WALKER
    inputs = [f"{secret!r}, [{spied}]" for secret in SECRETS]
    other = Job(id=1, code="def f(a): return a + 'lantern'", inputs=("'fish'",))
    _, outcomes, _ = open_box.run([other, Job(id=0, code=code, inputs=tuple(inputs)), other])
    for own, outcome in zip(SECRETS, outcomes, strict=True):
        assert outcome.value == f"([{own[::-1]!r}], True)", outcome


@pytest.mark.parametrize("name", ["time", "monotonic", "process_time_ns", "perf_counter", "localtime"])
def test_no_clock_is_in_reach(open_box: Sandbox, name: str) -> None:
    [outcome] = run(open_box, f"{MODULES}\ndef f(): return modules()['time'].{name}()", "")
    assert (outcome.kind, outcome.exc) == ("exception", "AttributeError")


def test_processor_time_is_no_clock(open_box: Sandbox) -> None:
    code = f"{MODULES}\ndef f(): return modules()['ctypes'].CDLL(None).clock_gettime(2, bytes(16))"
    [outcome] = run(open_box, code, "")
    assert (outcome.kind, outcome.detail) == ("forbidden", "syscall")


FINGERPRINT = """
def f(a):
    frame, lines = modules()['sys']._getframe(), []
    while frame is not None:
        for name, item in sorted(frame.f_locals.items()):
            plain = type(item) in (int, str, bool, bytes, type(None))
            lines.append(frame.f_code.co_name + ' ' + name + ' ' + (str(item) if plain else type(item).__name__))
        frame = frame.f_back
    return [line for line in lines if 'f a' not in line and 'f lines' not in line]
"""


def test_no_input_knows_its_place(open_box: Sandbox) -> None:
    """First or last, alone or among others, after a failure or a success: the same frames with the same contents."""
    code = MODULES + FINGERPRINT
    alone = run(open_box, code, "7")[0]
    among = run(open_box, code, "1", "oops", "7", "2", "7")
    assert alone.kind == "ok" and {o.value for o in among if o.kind == "ok"} == {alone.value}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read another process's memory")
def test_no_byte_of_another_text_is_in_a_child() -> None:
    """The whole memory of a child at work, beside other inputs, other programs, answers and texts to parse."""
    endless = "def f(a):\n    return sum(iter(int, 1)) if a == 'coldharbour' else a"
    jobs = [
        Job(id=0, code="def brightwater(a): return a\ndef f(a): return brightwater(a)", inputs=("'ferrymaster'",)),
        Job(id=1, code=endless, inputs=("'mossgatherer'", "'coldharbour'", "'lanternfish'")),
        Job(id=2, code="def f(a): return a + 'tailpiece'", inputs=("'stormglass'",)),
    ]
    others = (b"brightwater", b"ferrymaster", b"mossgatherer", b"lanternfish", b"tailpiece", b"stormglass", b"undertow")
    with Sandbox(Limits(cpu_s=1.0), seeds=(1,), workers=1, cache=0) as box:
        zygote = box.pools.processes[1][0]
        box.run([literal_job(0, ("'undertow'",))])
        box.parse(["def f(undertow): return undertow"])
        counts: dict[bytes, int] = {}

        def look() -> None:
            while not counts:
                for pid in children(zygote):
                    with contextlib.suppress(OSError):
                        if (
                            int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11]) > 20
                        ):  # the endless one
                            found = {word: occurrences(pid, word) for word in (*others, b"coldharbour")}
                            if found[b"coldharbour"] and children(zygote) == [pid]:
                                counts.update(found)

        thread = threading.Thread(target=look)
        thread.start()
        results = box.run(jobs)
        thread.join()
    assert [[o.kind for o in group] for group in results] == [["ok"], ["ok", "timeout", "ok"], ["ok"]]
    assert counts.pop(b"coldharbour") > 0
    assert not {word: count for word, count in counts.items() if count}


# ---- forks of the host ----


def in_a_fork(action: object) -> object:
    """What ``action()`` gives in a forked process, or the exception it raises there."""
    assert callable(action)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            result: object = action()
        except BaseException as error:
            result = error
        os.write(writer, pickle.dumps(result))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    return pickle.loads(data)


@FORKS
def test_a_sandbox_is_of_one_process() -> None:
    job = Job(id=0, code="def f(a): return a", inputs=("1",))
    with Sandbox(workers=2, cache=0) as box:
        for call in (lambda: box.run([job]), lambda: box.validate([job]), lambda: box.parse([job.code])):
            error = in_a_fork(call)
            assert isinstance(error, SandboxUnavailable) and "fork" in str(error) and "\n" not in str(error)
        assert in_a_fork(box.close) is None
        assert [o.value for [o] in box.run([job] * 5)] == ["1"] * 5
        assert box.report()["respawns"] == 0


@FORKS
def test_a_cached_answer_is_no_way_around() -> None:
    job = Job(id=0, code="def f(a): return a", inputs=("1",))
    with Sandbox(workers=2) as box:
        box.run([job])
        assert isinstance(in_a_fork(lambda: box.run([job])), SandboxUnavailable)


@FORKS
def test_a_fork_may_have_its_own() -> None:
    def own() -> list[str | None]:
        with Sandbox(workers=2, cache=0) as mine:
            return [o.value for [o] in mine.run([Job(id=0, code="def f(a): return a", inputs=("2",))])]

    with Sandbox(workers=2, cache=0) as box:
        assert in_a_fork(own) == ["2"]
        assert [o.value for [o] in box.run([Job(id=0, code="def f(a): return a", inputs=("3",))])] == ["3"]
