"""Every attack ends in a typed outcome that is right for it, leaves no file, process, connection or wrong value."""

import os
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitzero.sandbox import Job, Limits, Outcome, Sandbox, process
from tests.sandbox import attacks
from tests.sandbox.attack import CANARY, LETTERS, PORT, WALK, Attack, open_to_all

INPUT = "[9, 1, 2]"
NEIGHBOURS = {  # honest programs and their values on INPUT
    "import math\ndef f(xs): return [sorted(xs), len(xs), sum(xs), math.sqrt(max(xs))]": "[[1, 2, 9], 3, 12, 3.0]",
    "import collections, string\ndef f(xs): return [dict(collections.Counter(xs)), string.digits[:2]]": (
        "[{1: 1, 2: 1, 9: 1}, '01']"
    ),
}
BY_INTENT = sorted({attack.intent for attack in attacks.ALL})


@pytest.fixture(scope="module")
def quick_box() -> Iterator[Sandbox]:
    """Less processor time, so that the endless programs of the suite do not take minutes."""
    with Sandbox(Limits(cpu_s=0.2), cache=0) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def open_box() -> Iterator[Sandbox]:
    """A sandbox without the static layers: what holds here holds by the kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_BOOT", open_to_all(process._BOOT))
        with Sandbox(Limits(cpu_s=0.2), cache=0) as sandbox:
            sandbox.pools.launch(range(3, 9))  # of all seeds, while the patch holds
            for seed in range(3, 9):
                sandbox.pools.of(seed)
            yield sandbox


@pytest.fixture(scope="module")
def caller() -> Iterator[socket.socket]:
    """A socket that would hear any program that reaches this machine's network."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", PORT))
        listener.listen()
        listener.setblocking(False)
        yield listener


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len({attack.code for attack in attacks.ALL}) == len(attacks.ALL) >= 400


@pytest.mark.parametrize("intent", BY_INTENT)
def test_attacks(quick_box: Sandbox, open_box: Sandbox, caller: socket.socket, intent: str) -> None:
    suite = [attack for attack in attacks.ALL if attack.intent == intent]
    walkers = [attack for attack in suite if attack.code.startswith(WALK)]
    assert_stopped(quick_box, caller, [attack for attack in suite if attack not in walkers])
    assert_stopped(open_box, caller, walkers)


def assert_stopped(box: Sandbox, caller: socket.socket, suite: list[Attack]) -> None:
    jobs = []
    for attack in suite:  # an honest program before and after each: its value must not change
        jobs.append(Job(id="attack", code=attack.code, inputs=("",)))
        jobs += [Job(id="neighbour", code=code, inputs=(INPUT,)) for code in NEIGHBOURS]
    outcomes = [outcome for [outcome] in box.validate(jobs)]
    for index, attack in enumerate(suite):
        outcome, first, second = outcomes[3 * index : 3 * index + 3]
        assert outcome.kind in {LETTERS[letter] for letter in attack.allowed}, (attack.code, outcome)
        assert [first.value, second.value] == list(NEIGHBOURS.values())
    assert_untouched(box, caller)


def assert_untouched(box: Sandbox, caller: socket.socket) -> None:
    assert not Path(CANARY).exists() and not Path(CANARY).is_symlink()
    with pytest.raises(BlockingIOError):
        caller.accept()
    for pool in box.pools.processes.values():
        for zygote in pool:
            assert zygote.popen.poll() is None
            pid = zygote.inner or zygote.popen.pid
            assert Path(f"/proc/{pid}/task/{pid}/children").read_text().strip() == ""
    assert box.pools.respawns == 0


def test_no_walk_passes_the_language(quick_box: Sandbox) -> None:
    jobs = [Job(id=0, code=attack.code, inputs=("",)) for attack in attacks.ALL if attack.code.startswith(WALK)]
    outcomes = [outcome for [outcome] in quick_box.run(jobs)]
    assert len(outcomes) >= 100
    assert {(outcome.kind, outcome.detail.split()[0]) for outcome in outcomes} <= {
        ("forbidden", "attribute"), ("forbidden", "name")
    }  # fmt: skip


def test_what_slips_through_the_static_look_meets_the_kernel(open_box: Sandbox) -> None:
    """A child that holds ``posix`` and ``ctypes`` is stopped by the system-call filter, not by anything in Python."""
    walkers = [a for a in attacks.ALL if a.code.startswith(WALK) and a.allowed == "F"]
    results = open_box.run([Job(id=0, code=attack.code, inputs=("",)) for attack in walkers])
    details = [outcome.detail for [outcome] in results]
    assert details.count("syscall") >= 50
    assert set(details) <= {"syscall", "no result", "forged result"}


def test_the_walk_itself_works(open_box: Sandbox) -> None:
    """Without this the test above could pass because the walk ends in a mere mistake."""
    code = WALK + "def f(): return sorted(n for n in modules() if n in ('posix', 'ctypes', '_socket', 'signal'))"
    [[outcome]] = open_box.run([Job(id=0, code=code, inputs=("",))])
    assert outcome.value == "['_socket', 'ctypes', 'posix', 'signal']"


def mutated(rng: random.Random) -> str:
    """An attack with one or two of its words or marks exchanged for those of another one."""
    words = re.findall(r"\w+|\s+|[^\w\s]", rng.choice(attacks.ALL).code[:2000])
    places = [place for place, word in enumerate(words) if not word.isspace()]
    for place in rng.sample(places, min(len(places), rng.randrange(1, 3))):
        others = re.findall(r"\w+|[^\w\s]", rng.choice(attacks.ALL).code[:2000])
        alike = [word for word in others if word.isidentifier() == words[place].isidentifier()]
        words[place] = rng.choice(alike or words)
    return "".join(words)


def test_mutated_attacks(quick_box: Sandbox, caller: socket.socket) -> None:
    rng = random.Random(17)
    codes = [mutated(rng) for _ in range(300)]
    outcomes = [outcome for [outcome] in quick_box.run([Job(id=0, code=code, inputs=("",)) for code in codes])]
    assert len(outcomes) == 300 and not [o for o in outcomes if o.kind == "infra"]
    assert len({outcome.kind for outcome in outcomes}) >= 4  # not all of them are mere syntax errors
    assert len(quick_box.parse(codes)) == 300
    assert_untouched(quick_box, caller)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("def f(x): return x", "0) or (1"),
        ("def f(x): return x", "1)(2"),
        ("def f(x): return x", "open('/etc/passwd').read()"),
        ("def f(x): return x", "__import__('os').system('id')"),
        ("def f(x): return x", "*[1]"),
        ("def f(x): return x", "(x for x in [1])"),
        ("def f(x): return x", "lambda: 1"),
        ("def f(x): return x", "1\n)\nimport os\nf(1"),
        ("def f(x): return x", "[" * 3000),
        ("def f(x): return x", "{" * 99 + "}" * 99),
        ("def f(x): return x", "-" * 5000 + "1"),
        ("def f(x): return x", "9" * 5000),
        ("def f(x): return x", "'\\N{" + "A" * 5000 + "}'"),
        ("def f(x): return x", "x := 1"),
        ("def f(x): return x", "f'{open}'"),
    ],
)
def test_inputs_are_literals_or_nothing(quick_box: Sandbox, code: str, text: str) -> None:
    """AZR pastes an answer into source and evaluates it; here it never closes a bracket, names or runs anything."""
    for outcomes in quick_box.run([Job(id=0, code=code, inputs=(text, "7"))]):
        assert [outcome.kind for outcome in outcomes[1:]] == ["ok"]
        assert outcomes[0].kind in ("exception", "memory")


# The verifier defects of AZR's executor


def test_a_run_that_raises_is_no_valid_program(quick_box: Sandbox) -> None:
    raising = (
        "raise Exception('Non-deterministic code')",
        "raise StopIteration",
        "import uuid; return str(uuid.uuid4())",
    )
    jobs = [Job(id=0, code=f"def f(): {body}", inputs=("",)) for body in raising]
    assert [outcome.kind for [outcome] in quick_box.validate(jobs)] == ["exception", "exception", "forbidden"]


def test_a_long_value_is_refused_not_cut(quick_box: Sandbox) -> None:
    jobs = [Job(id=0, code="def f(n): return 'a' * n", inputs=("401", "8190", "8191"))]
    [[short, longest, beyond]] = quick_box.validate(jobs)
    assert short.value == repr("a" * 401) and longest.value == repr("a" * 8190)
    assert (beyond.kind, beyond.value) == ("oversize", None)


def test_a_counter_between_calls_starts_anew(quick_box: Sandbox) -> None:
    code = "calls = []\ndef f(x):\n    calls.append(x)\n    return len(calls)"
    [outcomes] = quick_box.validate([Job(id=0, code=code, inputs=("1", "2", "3"))])
    assert [outcome.value for outcome in outcomes] == ["1", "1", "1"]


def test_an_answer_never_runs_on_the_host(quick_box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITZERO_REACHED", raising=False)
    text = "__import__('os').environ.__setitem__('BITZERO_REACHED', '1')"
    [[outcome]] = quick_box.run([Job(id=0, code="def f(x): return x", inputs=(text,))])
    assert outcome.kind == "exception" and "BITZERO_REACHED" not in os.environ


def test_nan_is_one_value(quick_box: Sandbox) -> None:
    [[outcome]] = quick_box.validate([Job(id=0, code="def f(): return [float('nan'), 1e999]", inputs=("",))])
    assert outcome == Outcome(kind="ok", value="[nan, inf]", cpu_us=outcome.cpu_us, fuel=1, confidence=1.0)
