"""Some minutes of a conversation as it happens: the real program at a pseudo-terminal, recorded with its timings.

    python benchmarks/chat_transcript.py [--model=FILE] [--pause=4] [--out=FOLDER]

Starts ``launch.py --mode=chat`` twice with an empty folder for the person and an empty compile cache: once for the
first start, and once more for the conversation, a fixed list of inputs with a pause for reading after each answer.
Prints the timings, and writes ``chat_transcript.md`` (what was on the screen, machine and commit) and ``chat.svg`` (a
part of it with its colours) to ``benchmarks/results/`` or FOLDER. What is wrong in it was wrong: nothing is chosen.
"""

import argparse
import contextlib
import hashlib
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.chat_screen import Conversation, Timed, picture  # noqa: E402
from bitzero.run.experiment import SHIPPED  # noqa: E402

PASTE = "1 + " * 250_000 + "1"
WAITING = "making the model ready"  # begins the line that is said while it compiles
CTRL_C = "\x03"  # at the end of an input: pressed when something of its answer is there
QUESTIONS = (
    "def f(t): return sorted(t)[::-1]; f([4, 1, 5])",
    "def h(a, b): return a * b - 3; h(7, 6)",
    "def g(a):\n    b = a + 2\n    return b * 2\n",
    "g(5)",
    "g(?) == 12",
    "1 -> 2, 5 -> 6, 7 -> 8",
    "'ab' -> 'ba', 'xyz' -> 'zyx'",
    "sum([1, 2, 3]) * 2",
    "hello, who are you?",
    "open('/etc/passwd').read()",
)  # of the picture
INPUTS = (
    *QUESTIONS,
    "/help",
    "def k(s): return s.upper() + '!'; k(?) == 'HEY!'",
    "1, 2 -> 3; 5, 1 -> 6; 2, 2 -> 4",
    "g(4) + 1",
    "def f(a): return a +; f(3)",
    "/set verbosity short",
    "def f(a): return [a, a + 1]; f(2)",
    "/set verbosity auto",
    "/persona playful",
    "def f(a): return a[1:] + a[:1]; f('abc')",
    "/persona show",
    "/persona tutor",
    "/puzzle 0",
    "3",
    "/puzzle 1",
    "/puzzle give",
    "/set bits all",
    "def f(a, b):\n    c = a - b\n    return [c, a]\nf(7, 3)",
    "/set bits auto",
    "/memory list",
    "/memory find g(",
    "/memory forget g",
    "g(5)",
    "/history",
    "def f(a): return ().__class__.__bases__[0].__subclasses__(); f(1)",
    "chr(27) + ']0;owned'",
    "def f(a):\n    while True:\n        a += 1\n    return a\nf(1)",
    "[0] * 10**9",
    PASTE,
    "/set tries 256",
    "1 -> 2, 5 -> 77, 8 -> 3" + CTRL_C,
    "1 + 1",
    "/set tries 16",
    "/stats compare 6",
    "/save today",
    "/show",
)


def main() -> None:
    """Converses, prints and writes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=pathlib.Path, help="a packed model; default: the shipped one")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds after each answer")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _conversation(given.model, pathlib.Path(folder)) as first:
        asked_first = first.ask(QUESTIONS[0])
        first.leave()
        began = time.monotonic()
        with _conversation(given.model, pathlib.Path(folder)) as second:
            answers = []
            for text in INPUTS:
                answers.append(second.ask(text, paste=text == PASTE))
                print(f"{answers[-1].seconds:7.2f} s  {_short(text)}", flush=True)
                time.sleep(given.pause)
            peak = second.peak_memory_mib()
            second.leave()
        minutes = (time.monotonic() - began) / 60
        measured = timings(first, asked_first, second, answers, peak, minutes)
        text = _without_paths(report(given.model or SHIPPED, measured, second, answers), pathlib.Path(folder))
    print("\n".join(f"{name}: {value}" for name, value in measured.items()))
    (given.out / "chat_transcript.md").write_text(text)
    shown = answers[len(QUESTIONS) - 1].end
    (given.out / "chat.svg").write_text(picture(second.screen, shown, "python launch.py --mode=chat"))


@contextlib.contextmanager
def _conversation(model: pathlib.Path | None, folder: pathlib.Path) -> Iterator[Conversation]:
    command = [sys.executable, "launch.py", "--mode=chat", f"--profile_dir={folder / 'profile'}"]
    command += [f"--model={model.absolute()}"] if model else []
    found = Conversation(command, cwd=ROOT, settings={"XDG_CACHE_HOME": str(folder / "cache")}, aside=WAITING)
    try:
        yield found
    finally:
        found.kill()


def timings(
    first: Conversation, asked_first: Timed, second: Conversation, answers: list[Timed], peak: float, minutes: float
) -> dict[str, str]:
    """What a person waits for, in words."""
    asked = [answer for answer in answers if "\n" not in answer.text.strip() and _asks_model(answer.text)]
    seconds = [answer.seconds for answer in asked]
    return {
        "start to prompt, first start": f"{first.prompt_after:.1f} s",
        "start to prompt, second start": f"{second.prompt_after:.1f} s",
        "question to first token, first start": f"{asked_first.first:.1f} s, compiling",
        "question to first token, second start": f"{answers[0].first:.2f} s",
        f"answers of the model ({len(asked)} questions of one line)": (
            f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s"
        ),
        "peak memory of the program, the sandbox apart": f"{peak:.0f} MiB",
        "the conversation, pauses for reading among it": f"{minutes:.1f} minutes",
    }


def _asks_model(text: str) -> bool:
    """A call, a wanted input or examples, which are not stopped."""
    return text[0] != "/" and CTRL_C not in text and ("->" in text or "== " in text or "; " in text)


def report(model: pathlib.Path, measured: dict[str, str], talk: Conversation, answers: list[Timed]) -> str:
    """The transcript with machine, commit and timings above it."""
    from bitzero.run import device

    machine = device.describe_machine()
    digest = hashlib.sha256(model.read_bytes()).hexdigest()[:16]
    facts = {
        "made by": "`python benchmarks/chat_transcript.py`",
        "model": f"{model.name}, {model.stat().st_size / 1e6:.2f} MB, sha256 {digest}…",
        "machine": f"{machine['processor']}, {machine['cores']} cores, {', '.join(machine['devices'])}; load "
        f"{_load()} at the end",
        "Python, JAX, commit": f"{machine['python']}, {machine['versions']['jax']}, {machine['commit']}",
    } | measured
    lines = ["# A conversation, as it happened", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "After each answer stand its seconds, and those to the first of its text. The paste of a million "
              "characters is not shown.", "", "```", *talk.screen.lines(0, answers[0].start)]  # fmt: skip
    for answer in answers:
        lines += [*talk.screen.lines(answer.start, answer.end), f"        ({answer.seconds:.2f} s, {answer.first:.2f})"]
    return "\n".join([*lines, "```", ""])


def _load() -> str:
    return pathlib.Path("/proc/loadavg").read_text().split()[0]


def _without_paths(text: str, folder: pathlib.Path) -> str:
    return text.replace(str(folder), "FOLDER").replace(f"{ROOT}/", "")


def _short(text: str) -> str:
    flat = text.replace("\n", "⏎ ").replace(CTRL_C, " ^C")
    return flat if len(flat) < 70 else f"{flat[:60]}… ({len(text):,} characters)"


if __name__ == "__main__":
    try:
        main()
    except (TimeoutError, subprocess.SubprocessError) as error:
        sys.exit(f"chat_transcript.py: {error}")
