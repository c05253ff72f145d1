"""What held-out programs do is found once on a machine, and again where anything that decides it changed."""

import dataclasses

import pytest

from bitzero.config import Config, Tasks
from bitzero.generator.stream import Stream
from bitzero.run import device, guarded

CFG = Config(tasks=Tasks(guarded=3))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "cache_directory", lambda: tmp_path)
    return tmp_path


def test_the_second_process_reads_what_the_first_one_found(cache, monkeypatch):
    with Stream(CFG) as stream:
        told = []
        found = guarded.guarded_behaviours(stream, lambda *counts: told.append(counts))
        assert told == sorted(told) and {total for _, total in told} == {36}  # of six levels, dev and test
        assert len(told) >= 12 and told[-1][0] >= 33
        assert found == stream.guarded_behaviours() and len(found) > 20
        monkeypatch.setattr(stream, "guarded_behaviours", lambda tell: pytest.fail("made again"))
        assert guarded.guarded_behaviours(stream) == found
    (file,) = cache.iterdir()
    assert file.name == f"guarded-{guarded.fingerprint(CFG)}.json"


def test_nothing_is_asked_of_the_workers_that_the_machine_knows(cache, monkeypatch):
    asked = []
    with Stream(CFG) as stream:
        monkeypatch.setattr(stream, "request_guarded", lambda: asked.append(len(list(cache.iterdir()))))
        guarded.request_guarded(stream)
        monkeypatch.setattr(stream, "guarded_behaviours", lambda tell: frozenset((1,)))
        guarded.guarded_behaviours(stream)
        guarded.request_guarded(stream)
    assert asked == [0]


@pytest.mark.parametrize("content", [b"", b"[1, 2", b"{}", b'["1"]', b"[true]", b"[]", b"\xff"])
def test_a_broken_file_is_made_again(cache, monkeypatch, content):
    file = cache / f"guarded-{guarded.fingerprint(CFG)}.json"
    file.write_bytes(content)
    with Stream(CFG) as stream:
        monkeypatch.setattr(stream, "guarded_behaviours", lambda tell: frozenset((1, 2**64 - 1)))
        assert guarded.guarded_behaviours(stream) == guarded.guarded_behaviours(stream) == {1, 2**64 - 1}
    assert file.read_bytes() == b"[1, 18446744073709551615]"


def test_without_a_cache_it_is_found_each_time(monkeypatch):
    monkeypatch.setattr(device, "cache_directory", lambda: None)
    with Stream(CFG) as stream:
        turns = iter([frozenset((1,)), frozenset((2,))])
        monkeypatch.setattr(stream, "guarded_behaviours", lambda tell: next(turns))
        assert [guarded.guarded_behaviours(stream) for _ in range(2)] == [{1}, {2}]


def test_what_decides_a_behaviour_names_the_file(monkeypatch):
    changed = [
        dataclasses.replace(CFG, seed=1),
        dataclasses.replace(CFG, tasks=Tasks(guarded=4)),
        dataclasses.replace(CFG, tasks=Tasks(guarded=3, pairs=5)),
    ]
    names = {guarded.fingerprint(cfg) for cfg in (CFG, *changed)}
    monkeypatch.setattr(guarded, "code_of", lambda rooms: "another")
    assert len(names | {guarded.fingerprint(CFG)}) == 5
    assert guarded.fingerprint(CFG) == guarded.fingerprint(dataclasses.replace(CFG, tasks=Tasks(guarded=3, context=99)))


def test_the_code_is_that_of_rooms_or_files():
    whole, model, file = (guarded.code_of(places) for places in (guarded.ROOMS, ("model",), ("model/quant.py",)))
    assert len({whole, model, file, guarded.code_of(("model", "state.py"))}) == 4
    with pytest.raises(FileNotFoundError):  # a room that was renamed would decide nothing
        guarded.code_of(("nowhere",))


def test_prose_decides_nothing():
    tree = guarded.without_prose("def f(a):\n    return a + 1\n")
    assert guarded.without_prose('"""Prose."""\ndef f(a):  # more\n    """And more."""\n    return a + 1\n') == tree
    assert guarded.without_prose("def f(a):\n    return a + 2\n") != tree
