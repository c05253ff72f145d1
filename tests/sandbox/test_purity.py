"""Pure programs share a child: no program that could tell is called pure, and sharing changes no outcome."""

import ast
from collections.abc import Sequence

import pytest

from bitzero.generator.programs import generate
from bitzero.sandbox import Job, Limits, Outcome, Sandbox, language, pages, purity, rewriting, screen, wire
from bitzero.tasks import behaviour
from tests.sandbox.test_isolation import CROSSING, MODULES, PATHS, WALKER
from tests.sandbox.test_language import ADDRESSES, ORDERS, REACHING


def is_pure(code: str) -> bool:
    """As a reader finds it; what the screen refuses is run nowhere."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return False
    rewriting.drop_idioms(tree)
    nodes = screen.walk(tree)
    return purity.is_pure(nodes, screen.look(nodes))


def f(*lines: str) -> str:
    return "def f(a):\n" + "".join(f"    {line}\n" for line in lines)


HOSTILE = {
    "a read of a built-in that is bound elsewhere": f("return getattr(print, 'n', 0)", "def g(getattr, print): pass"),
    "a store on a function": f("f.n = a", "return a"),
    "a store on a method": f("a.append.n = 1", "return a"),
    "a loop over an attribute": f("for f.n in a: pass", "return a"),
    "an augmented attribute": f("f.n += 1", "return a"),
    "a deleted attribute": f("del f.n", "return a"),
    "a class": "class A: n = 0\ndef f(a): return a",
    "a decorator": "def g(h): return h\n@g\ndef f(a): return a",
    "an import": "import math\ndef f(a): return a",
    "a global": f("global n", "n = a", "return a"),
    "a nonlocal": f("n = 0", "def g():", "    nonlocal n", "    n += 1", "return g()"),
    "format with fields": f("return '{0}'.format(a)"),
    "getattr": f("return getattr(a, 'count')"),
    "type": f("return type(a)"),
    "object": f("return object()"),
    "print": f("print(a)", "return a"),
    "a set": f("return len({1, a})"),
    "set": f("return len(set(a))"),
    "views with an operator": f("return list(a.keys() | a.items())"),
    "identity of values": f("return a is 5"),
    "identity in a chain": f("return None is a is 5"),
    "identity of two": f("b = a", "return a is not b"),
    "every exception": f("try: return [0] * a", "except: return 1"),
    "Exception": f("try: return [0] * a", "except Exception: return 1"),
    "BaseException": f("try: return [0] * a", "except BaseException: return 1"),
    "MemoryError": f("try: return [0] * a", "except MemoryError: return 1"),
    "MemoryError among others": f("try: return [0] * a", "except (TypeError, MemoryError): return 1"),
    "MemoryError, not passed on at once": f(
        "try: a = [0] * a", "except MemoryError: return 1", "except Exception: raise"
    ),
    "MemoryError after Exception": f("try: a = [0] * a", "except Exception: return 1", "except MemoryError: raise"),
    "MemoryError by another name": f("E = MemoryError", "try: return [0] * a", "except E: return 1"),
    "TypeError is MemoryError": f("TypeError = MemoryError", "try: return [0] * a", "except TypeError: return 1"),
    "MemoryError is TypeError": f(
        "MemoryError = TypeError", "try: return [0] * a", "except MemoryError: raise", "except Exception: return 1"
    ),
    "ValueError is an argument": f(
        "def g(ValueError):", "    try: return [0] * a", "    except ValueError: return 1", "return g(Exception)"
    ),
    "a computed exception": f("try: return [0] * a", "except [MemoryError][0]: return 1"),
    "finally": f("try: return [0] * a", "finally: return 1"),
    "an exception's own text": f("try: return [0] * a", "except TypeError as e: return str(e)"),
    "with": f("with a: return 1"),
    "match": f("match a:", "    case 1: return 2"),
    "a generator": f("yield a"),
    "two underscores": f("return a.__class__"),
    "a private name": f("return __n"),
    "async": "async def f(a): return a",
    "an exception group": f("try: return [0] * a", "except* TypeError: pass"),
}
ADVERSARIES = {
    **HOSTILE,
    **{f"crossing: {name}": f"def f(a):\n    {body}" for name, body in CROSSING.items() if "range(3000)" not in body},
    **{f"path {path}": f"def f(a):\n    return {path!r}.format(f)" for path in PATHS},
    **{f"reaching: {name}": code for name, code in REACHING.items()},
    "the walker": MODULES + WALKER,
}


@pytest.mark.parametrize("code", ADVERSARIES.values(), ids=ADVERSARIES.keys())
def test_what_could_tell_is_not_pure(code: str) -> None:
    assert not is_pure(code)


def test_addresses_and_orders_are_not_pure_or_end_the_run(box: Sandbox) -> None:
    shared = [code for code in (*ADDRESSES, *ORDERS) if is_pure(code)]
    for [outcome] in box.run([Job(id=0, code=code, inputs=("",)) for code in shared]):
        assert (outcome.kind, outcome.detail) == ("forbidden", "repr of an address")


def test_every_node_that_the_look_does_not_know_is_impure() -> None:
    """A new kind of syntax is no way in: what is allowed is listed, and listed things alone are of the language."""
    assert not purity.is_pure([ast.Module([], []), ast.Await(ast.Constant(1))], screen.look([]))
    assert purity.BUILTINS <= language.BUILTINS and purity.NODES <= language.NODES
    assert purity.METHODS <= language.ATTRIBUTES


PURE = {
    "state in an argument": f("a.append(len(a))", "return a"),
    "state in a default": "def f(a, b=[]):\n    b.append(a)\n    return len(b)",
    "state in a global": "b = []\ndef f(a):\n    b.append(a)\n    return len(b)",
    "a rebound built-in": "len = abs\ndef f(a): return len(a)",
    "a handler": f("try: return 7 // a", "except ZeroDivisionError: return -1"),
    "a handler that passes MemoryError on": f(
        "try: return 7 // a", "except MemoryError: raise", "except Exception: pass"
    ),
    "singletons": f("return [a is None, a is not True]"),
    "a closure, a lambda": f("def g(b): return b + a", "return list(map(lambda b: g(b), [a]))"),
    "text": f("return f'{a:>5}|{a!r}' + '%s' % a"),
    "recursion": f("return 1 if a < 1 else a * f(a - 1)"),
}


@pytest.mark.parametrize("code", PURE.values(), ids=PURE.keys())
def test_pure_programs_keep_nothing_from_one_input_to_the_next(box: Sandbox, code: str) -> None:
    assert is_pure(code)
    inputs = ("3", "3", "0", "[1]", "3", "'x'", "3")
    assert together(box, code, inputs) == alone(box, code, inputs)


def test_generated_programs_are_pure_and_run_the_same_together(box: Sandbox) -> None:
    programs = [generate(0, 7, index, index % 5) for index in range(60)]
    assert sum(is_pure(program.code) for program in programs) > 48
    assert sum(is_pure(behaviour.rows_program(program.code)) for program in programs) > 48
    jobs = [Job(id=0, code=program.code, inputs=program.inputs, owner=0) for program in programs]
    for program, found in zip(programs, box.validate(jobs), strict=True):
        assert tuple(outcome.value for outcome in found) == program.outputs


# ---- deaths ----

ENDS = f(
    "if a == 1: return sum(iter(int, 1))",
    "while a == 2: pass",
    "if a == 3: return [0] * 10**9",
    "if a == 4: return f(a)",
    "if a == 5: return str(f)",
    "if a == 6: return 'x' * 10**5",
    "if a == 7: return 1 // 0",
    "if a == 8: return f",
    "b = [a]",
    "b.append(b)",
    "return [a, len(b)]",
)


def brief(outcomes: Sequence[Outcome]) -> list[tuple[str, str | None, str | None, str, int]]:
    return [(o.kind, o.value, o.exc, o.detail, o.fuel) for o in outcomes]


def together(box: Sandbox, code: str, inputs: Sequence[str]) -> list[tuple[str, str | None, str | None, str, int]]:
    [outcomes] = box.run([Job(id=0, code=code, inputs=tuple(inputs))])
    return brief(outcomes)


def alone(box: Sandbox, code: str, inputs: Sequence[str]) -> list[tuple[str, str | None, str | None, str, int]]:
    return [together(box, code, (text,))[0] for text in inputs]


@pytest.mark.parametrize("order", ["9192939495969798", "8765432109", "2233445511", "90909", "1929394", "5555", "4939"])
def test_a_death_in_the_middle_decides_over_its_own_input_alone(box: Sandbox, order: str) -> None:
    assert is_pure(ENDS)
    assert together(box, ENDS, order) == alone(box, ENDS, order)


def test_the_memory_that_earlier_inputs_leave_is_not_held_against_a_later_one() -> None:
    """Cycles are not collected: each input leaves 40 MB of the child's 128."""
    leaking = f("b = [0] * (5_000_000 + a)", "b.append(b)", "return len(b)")
    assert is_pure(leaking)
    with Sandbox(Limits(memory_mb=128), workers=2, cache=0) as small:
        assert [value for _, value, *_ in together(small, leaking, "123456789")] == [
            str(5_000_001 + n) for n in range(1, 10)
        ]


def test_an_endless_program_beside_others_costs_them_nothing(box: Sandbox) -> None:
    endless = f("while True: pass")
    slow = f("return sum(iter(int, 1))")
    codes = [endless, PURE["recursion"], slow, slow, PURE["recursion"], ENDS]
    found = box.run([Job(id=0, code=code, inputs=("9", "3"), owner=0) for code in codes])
    assert [brief(outcomes) for outcomes in found] == [alone(box, code, ("9", "3")) for code in codes]


def test_an_input_that_is_no_argument_list_stands_between(box: Sandbox) -> None:
    inputs = ("1", "oops", "2", "{3, 4}", "5", "1)(2", "6")
    assert together(box, f("return [a]"), inputs) == alone(box, f("return [a]"), inputs)


def test_processor_time_is_divided_among_those_who_shared_it(box: Sandbox) -> None:
    [outcomes] = box.run([Job(id=0, code=f("return a"), inputs=tuple("123456789"))])
    assert len({outcome.cpu_us for outcome in outcomes}) == 1
    [[single]] = box.run([Job(id=0, code=f("return a"), inputs=("1",))])
    assert 0 < outcomes[0].cpu_us < single.cpu_us


# ---- who shares ----


def laid(*texts: tuple[bytes, int]) -> list[int]:
    """Numbers of inputs of the children that an order of these (tag, flags) is run by; flags −1: only a verdict."""
    tray, desk, shelf = (pages.Pages(1 << 16, hidden=False), pages.Pages(1 << 16, hidden=False), pages.Shelf(1 << 16))
    shelf.clear()
    states = [(tag, pages.VERDICT if flags < 0 else pages.READY, max(0, flags)) for tag, flags in texts]
    data = b"".join(pages.RECORD.pack(*state, 3) + b"abc" for state in states)
    tray.map[: len(data)] = data
    shelf.add(tray, len(data))
    counts = []
    while (what := shelf.step()) != "end":
        if what == "run":
            counts.append(shelf.lay(desk))
            for _ in range(counts[-1] - 1):
                assert shelf.step() == "run"
    return counts


def test_pure_programs_of_one_owner_share_a_child_and_no_others_do() -> None:
    code, joined, one = pages.CODE, pages.JOINED, (pages.INPUT, 0)
    pure, impure, sets, broken = pages.PURE, 0, pages.TOUCHED, -1
    assert laid((code, pure), one, one, one) == [3]
    assert laid((code, pure), one, (code, pure), one) == [1, 1]
    assert laid((code, pure), one, (joined, pure), one, one, (joined, pure), one) == [4]
    assert laid((code, impure), one, one, (joined, impure), one) == [1, 1, 1]
    assert laid((code, sets), one, one) == [1, 1]
    assert laid((code, pure), one, (pages.INPUT, pages.TOUCHED), one, one) == [1, 1, 2]
    assert laid((code, pure), one, (joined, impure), one, (joined, pure), one, one) == [1, 1, 2]
    assert laid((code, impure), one, (joined, pure), one, one) == [1, 2]
    assert laid((code, pure), one, (joined, broken), one, (joined, pure), one) == [1, 1]
    assert laid((code, pure), one, (pages.INPUT, broken), one) == [1, 1]
    assert laid((code, pure), *[one] * (pages.MAX_SHARED + 2)) == [pages.MAX_SHARED, 2]


def test_after_a_death_for_want_of_time_each_input_has_its_own_child() -> None:
    tray, desk, shelf = (pages.Pages(1 << 16, hidden=False), pages.Pages(1 << 16, hidden=False), pages.Shelf(1 << 16))
    shelf.clear()
    texts = [(pages.CODE, pages.PURE), *[(pages.INPUT, 0)] * 3, (pages.JOINED, pages.PURE), *[(pages.INPUT, 0)] * 2]
    data = b"".join(pages.RECORD.pack(tag, pages.READY, flags, 3) + b"abc" for tag, flags in texts)
    tray.map[: len(data)] = data
    shelf.add(tray, len(data))
    shelf.step()
    assert shelf.lay(desk) == 5
    shelf.died()
    assert [(shelf.step(), shelf.lay(desk)) for _ in range(4)] == [("run", 1), ("run", 1), ("run", 2), ("run", 1)]


WHOLE = wire.pack([b"ok", b"", b"", b"1", b"1"])


def told(*messages: bytes, word: str, count: int) -> list[str]:
    tray = pages.Pages(1 << 16, hidden=False)
    data = b"".join(messages)
    tray.map[: len(data)] = data
    return [word for word, _, _ in pages.told_of(tray, len(data), word, count)]


def test_what_a_shared_child_leaves_to_be_said() -> None:
    assert told(WHOLE, WHOLE, WHOLE, word="done", count=3) == ["done"] * 3
    assert told(WHOLE, WHOLE, word="fuel", count=3) == ["done", "done", "fuel"]
    for word in ("cpu", "memory", "crash", "syscall", "silent", "hung", "killed", "flood"):
        assert told(WHOLE, WHOLE[:9], word=word, count=3) == ["done"], "what follows is run again, first in its child"
        assert told(WHOLE[:9], word=word, count=3) == [word]
        assert told(WHOLE, word=word, count=1) == [word]
    assert told(word="done", count=2) == ["done"]


def test_a_message_with_something_behind_it_is_forged() -> None:
    tray = pages.Pages(1 << 16, hidden=False)
    tray.map[: 2 * len(WHOLE) + 3] = WHOLE + WHOLE + b"abc"
    places = pages.told_of(tray, 2 * len(WHOLE) + 3, "done", 2)
    assert places == [("done", 0, len(WHOLE)), ("done", len(WHOLE), 2 * len(WHOLE) + 3)]


def test_one_seed_settles_what_is_pure_and_no_more() -> None:
    with Sandbox(workers=2, cache=0) as box:
        asked: list[int] = []
        send = box._dispatch

        def counted(runs):  # type: ignore[no-untyped-def]
            asked.append(len(runs))
            return send(runs)

        box._dispatch = counted  # type: ignore[method-assign]
        codes = (f("return a"), "import math\n" + f("return a"), f("return {a}"))
        jobs = [Job(id=0, code=code, inputs=("1",)) for code in codes]
        assert [o.confidence < 1 for [o] in box.validate(jobs)] == [False, False, True]
    assert asked == [3, 2, 6]
