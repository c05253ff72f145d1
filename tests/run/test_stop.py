"""A sitting ends on purpose: once asks, twice insists, and the handlers go back."""

import os
import signal
import time

import pytest

from bitzero.run.stop import Stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_and_tells(number):
    said, told = [], []
    before = signal.getsignal(number)
    with Stop(said.append) as stop:
        stop.call_when_asked(lambda: told.append(stop.asked))
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked == number.name and told == [number.name]
        assert said == ["finishing the work in hand; once more to stop at once"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(1)  # the handler runs at the next bytecode
    assert signal.getsignal(number) is before


def test_a_closing_terminal_asks_as_often_as_it_likes():
    with Stop(lambda sentence: None) as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.asked == "SIGHUP"


def test_a_run_that_is_to_outlive_its_terminal_does():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Stop(pytest.fail) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_cannot_be_said_does_not_keep_a_signal_from_asking():
    def refuse(sentence):
        raise RuntimeError("reentrant call inside a write")

    with Stop(refuse) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked == "SIGTERM"


def test_minutes_ask_and_zero_is_never():
    with Stop() as stop:
        stop.ask_after(0)
        stop.ask_after(0.001)
        time.sleep(0.3)
        assert stop.asked == "0.001 minutes are over"


def test_who_comes_late_is_told_at_once():
    told = []
    with Stop() as stop:
        stop.ask("over")
        stop.call_when_asked(lambda: told.append(True))
    assert told == [True] and stop.asked == "over"
