"""The real program at a pseudo-terminal and at a pipe, its model of random weights; in the order of a conversation."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from tests.chat.terminal import ROOT, Terminal, command, ran


def test_it_greets_and_helps_with_examples_that_work(terminal):
    terminal.expect("never read English")
    said = terminal.ask("/help", r"/bye\s+leaves.*\n.*Ctrl-D leaves")
    assert "def f(a): return a + 1; f(3)" in said and "1 -> 2, 5 -> 6, 7 -> 8" in said


def test_a_call_is_traced_and_python_has_its_say(terminal):
    said = terminal.ask("def f(a): return (a + 1) * 2; f(3)", r"answered with|I have no answer.*")
    assert "Python" in said
    assert "8" in said


def test_an_expression_runs_in_the_sandbox_alone(terminal):
    terminal.ask("sum([1, 2]) * 2", "Python: 6")
    terminal.ask("open('/etc/passwd').read()", "is refused by the sandbox")
    terminal.ask("chr(27) + '[31m'", r"Python: '\\x1b\[31m'")


def test_a_function_of_many_lines_is_remembered_by_name(terminal):
    terminal.ready()
    terminal.type("def double(x):\r    return x * 2\r\r")
    terminal.expect("remember double")
    terminal.ask("double(4) + 1", "Python: 9")
    terminal.ask("/memory find double", r"definition def double\(x\)")


def test_near_misses_get_a_line(terminal):
    terminal.ask("hello how are you", "never read English, only Python")
    terminal.ask("/hlep", "no command /hlep; did you mean /help")
    terminal.ask("/set tries many", "tries must be from 1 to 256")
    terminal.ready()
    terminal.type('"""\r1 -> 2\r"""\r')
    terminal.expect("two or more")


def test_settings_personas_and_statistics(terminal):
    terminal.ask("/set bits ternary", "bits is ternary")
    terminal.ask("/persona terse", "terse: /help for help")
    terminal.ask("/persona show", "persona terse; answers are short")
    terminal.ask("/stats", r"stored bits a weight; ternary alone 2\.00")
    terminal.ask("/reset", "as at first")


def test_ctrl_c_stops_an_answer_and_not_the_conversation(terminal):
    terminal.ask("/set tries 256", "tries is 256")
    terminal.ready()
    terminal.type("1 -> 2, 5 -> 77, 8 -> 3\r")
    terminal.expect(r"\.")  # a dot for each batch of tries
    terminal.type("\x03")
    terminal.expect("stopped")
    terminal.ask("1 + 1", "Python: 2")


def test_a_megabyte_is_said_to_be_too_long(terminal):
    terminal.ready()
    terminal.type("\x1b[200~" + "1 + " * 250_000 + "1\x1b[201~")
    terminal.expect(r"1,000,001 characters are too many")


def test_a_kill_loses_nothing_and_the_next_chat_knows_the_functions(terminal, model_file, profile):
    os.kill(terminal.process.pid, signal.SIGKILL)
    terminal.process.wait()
    with open(profile / "history.jsonl", "ab") as file:
        file.write(b"\x00\xff torn")
    again = Terminal(model_file, profile)
    try:
        again.expect("1 line.s. are damaged and were left out")
        again.ask("double(21) + 0", "Python: 42")
        assert again.leave() == 0
    finally:
        again.kill()


def test_a_pipe_gets_one_json_object_a_question(model_file, tmp_path):
    lines = [
        b"def f(a):",
        b"    return a + 1",
        b"f(3)",
        b"f(?) == 4",
        b"1 -> 2, 3 -> 4",
        b"2 ** 5",
        b"\xff\xfe",
        b"\x1b[2J",
        b"",
    ]
    lines += [b"def g(a): return " + b"a + " * 60 + b"a; g(1)", b"[0] * 10**9", b"/persona show"]
    code, out, err = ran(model_file, tmp_path / "p", "--json", given=b"\n".join(lines))
    found = [json.loads(line) for line in out.splitlines()]
    kinds = [
        "deduction",
        "abduction",
        "induction",
        "expression",
        "error",
        "error",
        "deduction",
        "expression",
        "command",
    ]
    assert [answer["kind"] for answer in found] == kinds, err
    assert found[0]["python"] == "4" and found[0]["right"] in (True, False)
    assert found[3]["answer"] == "32" and "UTF-8" in found[4]["note"] and "control character" in found[5]["note"]
    assert found[6]["python"] == "61" and "tokens and the model reads" in found[6]["note"]
    assert "answer" not in found[7] and "memory" in found[7]["python"].lower()
    assert code == 3 and "Traceback" not in err


def test_what_the_sandbox_refuses_is_said_beside_the_models_answer(model_file, tmp_path):
    attack = "def f(a): return ().__class__.__bases__; f(1)"
    code, out, err = ran(model_file, tmp_path / "p", f"--prompt={attack}")
    assert code == (3 if "I have no answer" in out else 0) and "Traceback" not in err
    assert "is refused by the sandbox" in out


def test_one_prompt_where_nothing_can_be_kept(model_file, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = ran(model_file, tmp_path / "file", "--prompt=3 * 4")
    assert code == 0 and "Traceback" not in err and out.splitlines()[0] == "Python: 12"
    assert "not kept, " in out.splitlines()[1] and len(out.splitlines()) == 2


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_model_that_is_none_is_a_line(content, tmp_path):
    path = tmp_path / "m.npz"
    if content:
        path.write_bytes(content)
    code, out, err = ran(path, tmp_path / "p", "--prompt=1")
    assert code == 1 and len(err.splitlines()) == 1 and str(path) in err and not out


def test_settings_of_the_model_are_refused_in_one_line(model_file, tmp_path):
    code, out, err = ran(model_file, tmp_path / "p", "--prompt=1", "--config.eval.items=7")
    line = "launch.py: config.eval.items is as the packed model has it; config.sandbox.allow_unsafe can be set\n"
    assert (code, out, err) == (2, "", line)


def test_a_profile_that_cannot_be_entered_is_a_line_each_and_the_chat_goes_on(model_file, tmp_path):
    code, out, err = ran(
        model_file, tmp_path / ("x" * 300), given=b"3 * 4\n/memory\n/adapt show\n/persona show\n5 * 5\n"
    )
    assert code == 3 and "Traceback" not in out + err
    assert "Python: 12" in out and "Python: 25" in out and "persona tutor" in out
    assert out.count("this chat goes on without what is kept there") == 1
    assert out.count("the model is asked as it is: cannot read") == 1


def test_standard_input_that_is_closed_is_a_line(model_file, tmp_path):
    words = " ".join(map(shlex.quote, command(model_file, tmp_path / "p")))
    done = subprocess.run(["sh", "-c", f"{words} <&-"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == (
        "launch.py: standard input is closed, so no question can come; ask one with --prompt, or open a pipe\n"
    )
    done = subprocess.run(["sh", "-c", f"echo 1 + 1 | {words} >&-"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_json_at_a_terminal_is_one_object_a_question_and_no_prompt(model_file, tmp_path):
    terminal = Terminal(model_file, tmp_path / "p", "--json")
    try:
        terminal.type("2 ** 5\n")
        terminal.expect(r'\{"kind": "expression".*"answer": "32".*\}')
        terminal.type("\x04")
        while terminal.process.poll() is None and terminal.read(0.1):
            pass
        assert terminal.process.wait(30) == 0
        assert ">>>" not in terminal.raw and "\x1b[?" not in terminal.raw
    finally:
        terminal.kill()


def test_without_a_model_the_shipped_one_is_asked_and_the_first_line_says_so(tmp_path):
    order = [sys.executable, "launch.py", "--mode=chat", f"--profile_dir={tmp_path / 'p'}", "--prompt=1 + 1"]
    done = subprocess.run(order, cwd=ROOT, capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("the model that comes with BitZero (model.npz, see MODEL.md beside it)")
    assert (second, done.returncode) == ("Python: 2", 0)


def test_the_five_lines_of_the_readme_ask_the_shipped_model(monkeypatch):
    text = (ROOT / "README.md").read_text()
    [lines] = re.findall(r"From Python it is five lines.*?```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(ROOT)
    found = {}
    exec(lines, found)
    assert len([line for line in lines.splitlines() if line]) == 5
    [[answer]] = found["answers"]
    assert answer == "3"


def test_ctrl_c_while_the_first_start_compiles_ends_it_at_once(tmp_path):
    """The shipped model, compiled as a person's is and for the first time: seconds in the compiler."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("JAX_DISABLE_MOST_OPTIMIZATIONS")
    order = [sys.executable, "launch.py", "--mode=chat", "--json", f"--profile_dir={tmp_path / 'p'}"]
    order.append("--prompt=def f(a): return a + 1; f(3)")
    asking = subprocess.Popen(order, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    with asking.stdout, asking.stderr:
        while b"making the model ready" not in (line := asking.stderr.readline()):
            assert line, "it ended without waiting for the compiler"
        asking.send_signal(signal.SIGINT)
        out, err = asking.stdout.read(), asking.stderr.read()
    assert asking.wait(60) == 130 and json.loads(out)["note"] == "stopped" and not err
