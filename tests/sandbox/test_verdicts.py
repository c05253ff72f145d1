"""How several runs become one outcome, and how hostile bytes become a verdict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitzero.sandbox import Limits, Outcome, wire
from bitzero.sandbox.process import Reply
from bitzero.sandbox.verdicts import RunVerdict, agree, needs_more_runs, of_reply

LIMITS = Limits()
KIND = {
    "1": Outcome(kind="ok", value="1"),
    "2": Outcome(kind="ok", value="2"),
    "V": Outcome(kind="exception", exc="ValueError"),
    "K": Outcome(kind="exception", exc="KeyError"),
    "T": Outcome(kind="timeout", detail="fuel"),
    "M": Outcome(kind="memory"),
    "F": Outcome(kind="forbidden"),
    "O": Outcome(kind="oversize"),
    "I": Outcome(kind="infra"),
}


def verdicts(letters: str, touched: bool = False) -> list[RunVerdict]:
    return [RunVerdict(KIND[letter], touched) for letter in letters]


@pytest.mark.parametrize(
    ("letters", "kind"),
    [
        ("11", "ok"), ("VV", "exception"), ("12", "nondeterministic"), ("1V", "nondeterministic"),
        ("VK", "nondeterministic"), ("1T", "timeout"), ("2111T", "timeout"), ("MT", "timeout"), ("FM", "memory"),
        ("OF", "forbidden"), ("O1", "oversize"), ("1I", "infra"), ("12I", "infra"), ("IT", "timeout"),
    ],
)  # fmt: skip
def test_precedence(letters: str, kind: str) -> None:
    assert agree(verdicts(letters)).kind == kind


def test_confidence() -> None:
    assert agree(verdicts("11")).confidence == 1.0
    assert agree(verdicts("11", touched=True)).confidence == pytest.approx(0.47)
    assert agree(verdicts("1" * 8, touched=True)).confidence == pytest.approx(0.8)
    assert agree(verdicts("12", touched=True)).confidence == 0.0


def test_more_runs_only_where_they_can_tell() -> None:
    assert needs_more_runs([verdicts("1", True), verdicts("1", True)])
    assert needs_more_runs([verdicts("12", True), verdicts("22", True)])  # the second input still agrees
    assert not needs_more_runs([verdicts("1"), verdicts("1")])
    assert not needs_more_runs([verdicts("1", True), verdicts("2", True)])
    assert not needs_more_runs([verdicts("T", True), verdicts("T", True)])


@pytest.mark.parametrize(
    ("word", "kind", "exc"),
    [
        ("cpu", "timeout", None), ("budget", "infra", None), ("syscall", "forbidden", None),
        ("memory", "memory", None), ("crash", "exception", "Crash"), ("silent", "forbidden", None),
        ("flood", "forbidden", None), ("done", "forbidden", None), ("hung", "infra", None), ("killed", "infra", None),
    ],
)  # fmt: skip
def test_a_death_without_a_message(word: str, kind: str, exc: str | None) -> None:
    outcome = of_reply(Reply(word, 7, False, b""), "run", LIMITS).outcome
    assert (outcome.kind, outcome.exc, outcome.value) == (kind, exc, None)


def body(kind: bytes = b"ok", exc: bytes = b"", used: bytes = b"3", value: bytes = b"[1]") -> bytes:
    return wire.pack([kind, exc, b"", used, value])


def test_a_message() -> None:
    verdict = of_reply(Reply("done", 9, True, body()), "run", LIMITS)
    assert verdict == RunVerdict(Outcome(kind="ok", value="[1]", cpu_us=9, fuel=3), touched=True, payload=b"[1]")


def test_the_end_of_fuel_has_no_message() -> None:
    outcome = of_reply(Reply("fuel", 9, False, b""), "run", LIMITS).outcome
    assert outcome == Outcome(kind="timeout", detail="fuel", cpu_us=9, fuel=LIMITS.fuel)


def test_a_death_decides_over_a_message() -> None:
    assert of_reply(Reply("syscall", 9, False, body()), "run", LIMITS).outcome.kind == "forbidden"


@pytest.mark.parametrize(
    "forged",
    [
        b"", b"\0", body()[:-1], body() + b"\0", body(kind=b"infra"), body(kind=b"nondeterministic"),
        body(kind=b"\xff"), body(kind=b"exception"), body(kind=b"exception", exc=b"Mine"), body(exc=b"KeyError"),
        body(used=b""), body(used=b"a"), body(used=b"-1"), body(used=b"20001"), body() + body(),
        body(value=b"[1,2]"), body(value=b"f()"), body(value=b"'" + b"a" * 9000 + b"'"), body(exc=b"E" * 50),
        body(value=b"\xc3\xa9"), body(used=b"9" * 5000), body(used=b"\xb2"),
    ],
)  # fmt: skip
def test_forged_messages_are_forbidden(forged: bytes) -> None:
    outcome = of_reply(Reply("done", 9, False, forged), "run", LIMITS).outcome
    assert (outcome.kind, outcome.value) == ("forbidden", None)


@given(st.binary(max_size=60))
def test_no_bytes_raise(noise: bytes) -> None:
    assert of_reply(Reply("done", 9, False, noise), "run", LIMITS).outcome.kind in ("forbidden", "ok", "exception")
