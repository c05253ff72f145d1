"""Whether the tests would see a mistake in the learning step: ``python benchmarks/mutants.py``.

Each mutant is one mistake, made alone in a copy of the tree in a temporary folder; the tests that could see it run
there until the first fails. Prints a line a mutant and writes ``benchmarks/results/mutants.json`` with machine and
commit; ``--only=entropy`` takes those whose name the pattern is found in. Exit code 1 if one survives or cannot be
judged. A mutant whose text no longer occurs exactly once is an error that says so, before anything runs.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

COPIED = ("bitzero", "pallas_kernels", "tests", "experiments", "launch.py", "pyproject.toml")
BOX_S = 300.0  # for one mutant's tests, on a busy machine too
OBJECTIVE, LOOP, BUFFER = (f"bitzero/selfplay/{name}.py" for name in ("objective", "loop", "buffer"))
GRADIENT = ("tests/selfplay/test_policy_gradient.py",)
PURE = ("tests/selfplay/test_objective.py",)
RING = ("tests/selfplay/test_buffer.py",)
ADMITTED = ("tests/selfplay/test_loop.py::test_a_rejected_proposal_gives_its_slot_to_a_task_of_the_ring",)
PLAYED = ("tests/selfplay/test_loop.py",)
CHOICES = ("tests/selfplay/test_ablations.py",)
NATIVE = ("tests/native/test_step.py::test_the_loss_of_self_play",)
RAMP = ("tests/selfplay/test_warmup.py",)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A mistake: ``text``, which ``file`` holds exactly once, becomes ``instead``; ``tests`` are files or tests."""

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...] = GRADIENT


MUTANTS = (
    Mutant("sign of the solver", OBJECTIVE, 'if role == "propose" else 1.0)', 'if role == "propose" else -1.0)'),
    Mutant("sign of the proposer", OBJECTIVE, "loss * (sp.proposer if", "loss * (-sp.proposer if"),
    Mutant("sign of both roles", OBJECTIVE, "per_token = -advantage", "per_token = advantage"),
    Mutant("sign of the update", "bitzero/selfplay/update.py", "p + lr * u", "p - lr * u"),
    Mutant("rows evened by the last step alone", "bitzero/selfplay/update.py",
           "beta * squares[name] + (1 - beta) * jnp", "jnp", ("tests/selfplay/test_update.py",)),
    Mutant("proposer's weight ignored", OBJECTIVE, "loss * (sp.proposer if", "loss * (1.0 if"),
    Mutant("advantages a row off", OBJECTIVE, "-advantage[:, None]", "-jnp.roll(advantage, 1)[:, None]"),
    Mutant("the last role's gradient alone", OBJECTIVE, "jax.tree.map(jnp.add, total, grads)", "grads"),
    Mutant("answers' advantages a task off", LOOP,
           "credit.solve_advantage.reshape(-1),", "jnp.roll(credit.solve_advantage, 1, 0).reshape(-1),"),
    Mutant("answers after another task's prompt", LOOP,
           "jnp.repeat(slots.prompt, group, axis=0)", "jnp.tile(slots.prompt, (group, 1))"),
    Mutant("mask off in the policy loss", OBJECTIVE, "weight * logp * mask", "weight * logp"),
    Mutant("unjudged answers learned from", LOOP,
           "mask=answers.mask & judged.counted.reshape(-1, 1)", "mask=answers.mask"),
    Mutant("logits a position off", OBJECTIVE,
           "a[:, drew:-1]", "a[:, drew - 1 : -2]"),
    Mutant("the other role's temperature", OBJECTIVE, 'if role == "solve" else cfg.selfplay.temperature',
           'if role != "solve" else cfg.selfplay.temperature'),
    Mutant("no temperature in the policy", OBJECTIVE, "window(logits)) / temperature)", "window(logits)))"),
    Mutant("no temperature in C++", OBJECTIVE, "Head(temperature=temperature, ", "Head(", NATIVE),
    Mutant("sign of log-probabilities in C++", OBJECTIVE, "-window(nll)", "window(nll)", NATIVE),
    Mutant("divided by the tokens written", OBJECTIVE,
           "axis=1) / logp.shape[1])", "axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1))"),
    Mutant("importance weight inverted", OBJECTIVE, "jnp.exp(logp - logprobs)", "jnp.exp(logprobs - logp)"),
    Mutant("cap off", OBJECTIVE, "jnp.minimum(jnp.exp(logp - logprobs), max_weight)", "jnp.exp(logp - logprobs)"),
    Mutant("gradient through the importance weight", OBJECTIVE, "jax.lax.stop_gradient(jnp.minimum(", "(jnp.minimum("),
    Mutant("sign of the entropy", OBJECTIVE, "total -= sp.entropy", "total += sp.entropy"),
    Mutant("entropy over the other role's tokens", OBJECTIVE,
           "rows.mask, counts[role])", 'rows.mask, counts["propose"])'),
    Mutant("sign of the KL", OBJECTIVE, "total += sp.kl", "total -= sp.kl"),
    Mutant("KL the other way round", OBJECTIVE,
           "jnp.exp(logits) * (logits - frozen)", "jnp.exp(frozen) * (frozen - logits)"),
    Mutant("supervised term dropped", OBJECTIVE, "return sp.supervised * loss", "return 0.0 * loss"),
    Mutant("generator's targets a token off", OBJECTIVE,
           "target = jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))", "target = mask"),
    Mutant("log-probabilities with another's gradient", OBJECTIVE,
           "jnp.where(chosen, g, 0.0) - g * jnp.exp(logits - total)", "-g * jnp.exp(logits - total)", PURE),
    Mutant("λ ignored in the loss", OBJECTIVE,
           "segments_of(tokens), cfg.model, lam)", "segments_of(tokens), cfg.model, None)", RAMP),
    Mutant("λ ignored in the step", "bitzero/selfplay/warmup.py", 'return params, lam', "return params, None", RAMP),
    Mutant("nothing left out of leave-one-out", OBJECTIVE,
           "mean = (total - rewards * counted) / jnp.maximum(others, 1)",
           "mean = total / jnp.maximum(others + 1, 1)", PURE),
    Mutant("faults count as failures", OBJECTIVE,
           "/ jnp.maximum(jnp.sum(counted, axis=1), 1)", "/ counted.shape[1]", PURE),
    Mutant("valid and invalid proposals swapped", OBJECTIVE,
           "jnp.where(valid, jnp.where(trivial, 0.0, value), -1.0)",
           "jnp.where(valid, -1.0, jnp.where(trivial, 0.0, value))", PURE),
    Mutant("trivial tasks pay", OBJECTIVE, "jnp.where(trivial, 0.0, value)", "value", PURE),
    Mutant("mean of the other kind", OBJECTIVE,
           "return mean[kind], sigma[kind]", "return mean[::-1][kind], sigma[kind]"),
    Mutant("σ of the other kind", OBJECTIVE, "return mean[kind], sigma[kind]", "return mean[kind], sigma[::-1][kind]"),
    Mutant("σ of the other role", LOOP,
           "objective.mean_and_sigma(base, rows, SOLVER,", "objective.mean_and_sigma(base, rows, PROPOSER,"),
    Mutant("baselines of the wrong role", LOOP,
           "base, flat(judged.reward), rows, SOLVER,", "base, flat(judged.reward), rows, PROPOSER,"),
    Mutant("the solver's reward for the proposer", LOOP, "(paid - mean) / sigma", "(rate - mean) / sigma"),
    Mutant("faults cost their proposer", LOOP, "proposer_counts = ~blameless(slots) & ", "proposer_counts = "),
    Mutant("held-out programs cost their proposer", LOOP,
           "(slots.gate == INFRA_GATE) | (slots.gate == HELDOUT)", "slots.gate == INFRA_GATE", PLAYED),
    Mutant("a rejected proposal compared with its substitute's kind", LOOP,
           "asked = slots.asked_kind", "asked = slots.kind", PLAYED),
    Mutant("level asked apart from the program shown", LOOP,
           "jnp.where(shown, state.ring.level[at].astype(level.dtype), level)", "level", PLAYED),
    Mutant("seeds of the ring are news", LOOP,
           "buffer.insert(history, known, jnp.ones(known.shape[0], bool))", "history", PLAYED),
    Mutant("padding may be drawn", "bitzero/selfplay/rollout.py",
           "logits = objective.without_pad(logits)", "logits = logits", ("tests/selfplay/test_rollout.py",)),
    Mutant("rejected proposals are paid", LOOP,
           "proposer_reward(rate, slots.own,", "proposer_reward(rate, slots.gate == slots.gate,"),
    Mutant("old programs pay their proposer in full", LOOP, "stale, sp.stale, 1.0", "stale, 1.0, 1.0", CHOICES),
    Mutant("programs of another level pay in full", LOOP,
           "elsewhere, sp.off_level, 1.0", "elsewhere, 1.0, 1.0", CHOICES),
    Mutant("the groups of least spread are learned from", LOOP,
           "spread = rate * (1 - rate)", "spread = rate * (rate - 1)", CHOICES),
    Mutant("a budget for each level knows no levels", LOOP,
           "place = jnp.sum(better & (level[None] == level[:, None]), axis=1)", "place = jnp.sum(better, axis=1)",
           CHOICES),
    Mutant("a budget for each level has the verdict's level where a task comes from the ring", LOOP,
           'level=jnp.where(own, verdict["level"], state', 'level=jnp.where(own | True, verdict["level"], state',
           CHOICES),
    Mutant("the control without policy losses has them", LOOP,
           'plays = cfg.selfplay.group_size, update_parts(cfg), cfg.selfplay.ablation != "supervised"',
           "plays = cfg.selfplay.group_size, update_parts(cfg), True", CHOICES),
    Mutant("own wrong answers are targets", LOOP, "judged.counted & (judged.reward > 0)", "judged.counted", CHOICES),
    Mutant("replay by the success rate", LOOP, "credit.rate * (1 - credit.rate)", "credit.rate", CHOICES),
    Mutant("own answers count for nothing", OBJECTIVE, "total += sp.own_answers *", "total += 0 *"),
    Mutant("own answers are unlearned", OBJECTIVE,
           '_masked_mean(-logp, rows.mask & played', '_masked_mean(logp, rows.mask & played'),
    Mutant("the learning rate of self-play never falls", "bitzero/selfplay/schedule.py",
           "cfg.selfplay.lr * of_selfplay", "cfg.selfplay.lr", ("tests/selfplay/test_update.py",)),
    Mutant("self-play's gains learn at warm-up's rate", LOOP,
           "lr_gains=cfg.selfplay.lr_gains", "lr_gains=cfg.optimiser.lr_gains"),
    Mutant("slots of every kind, whichever are named", LOOP,
           "in_turn(cfg.selfplay.kinds, kinds)", 'in_turn("", kinds)',
           ("tests/selfplay/test_loop.py::test_slots_are_of_the_kinds_that_are_named",)),
    Mutant("ring index off by one", BUFFER,
           "(ring.head + jnp.cumsum(keep) - 1) %", "(ring.head + jnp.cumsum(keep)) %", RING),
    Mutant("the oldest tasks kept", BUFFER,
           "head=(ring.head + added) % cap", "head=jnp.minimum(ring.head + added, cap - 1)", RING),
    Mutant("history not updated", LOOP,
           "dataclasses.replace(state, ring=ring, history=history), slots",
           "dataclasses.replace(state, ring=ring), slots", ADMITTED),
)  # fmt: skip


def misfits(mutants: tuple[Mutant, ...], root: pathlib.Path) -> list[str]:
    """A sentence for every mutant whose text does not occur exactly once, or whose tests are not there."""
    wrong = []
    for mutant in mutants:
        times = (root / mutant.file).read_text().count(mutant.text)
        if times != 1:
            wrong.append(f"{mutant.name}: {mutant.file} holds {mutant.text!r} {times} times, not once")
        for test in mutant.tests:
            file, _, name = test.partition("::")
            if not (root / file).is_file() or f"def {name}" not in (root / file).read_text():
                wrong.append(f"{mutant.name}: there is no {test}")
    return wrong


def copy_tree(to: pathlib.Path) -> None:
    """What the tests need, in ``to``; what they compile goes where the project's own tests keep it."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, to / name)
    cache = ROOT / "build" / "test-cache"
    cache.mkdir(parents=True, exist_ok=True)
    (to / "build").mkdir()
    (to / "build" / "test-cache").symlink_to(cache)


def run_tests(tree: pathlib.Path, tests: tuple[str, ...], box_s: float) -> tuple[str, str]:
    """("failed", the test) · ("passed", "") · ("error", why) of pytest on ``tests`` in ``tree``."""
    # Two edits within a second may leave a file's date and size alike, by which Python would trust stale bytecode.
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=box_s
        )
    except subprocess.TimeoutExpired:
        return "error", f"no answer in {box_s:.0f} s"
    failed = re.search(r"^FAILED \S+?\.py::(\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return "failed", failed[1]
    if done.returncode == 0:
        return "passed", ""
    # A tree that cannot be imported or set up is no proof that a test looks at a number.
    said = (done.stdout + done.stderr).strip().splitlines()
    return "error", next((line for line in reversed(said) if line.startswith("ERROR")), f"exit code {done.returncode}")


def judge(mutant: Mutant, tree: pathlib.Path, box_s: float) -> dict[str, object]:
    """The mutant's row: what became of it, by which test, in how many seconds. Leaves ``tree`` as it was."""
    file, start = tree / mutant.file, time.perf_counter()
    sound = file.read_text()
    file.write_text(sound.replace(mutant.text, mutant.instead))
    try:
        came, by = run_tests(tree, mutant.tests, box_s)
    finally:
        file.write_text(sound)
    result = {"failed": "killed", "passed": "survived", "error": "not judged"}[came]
    seconds = round(time.perf_counter() - start, 1)
    return {"mutant": mutant.name, "file": mutant.file, "result": result, "by": by, "seconds": seconds}


def sweep(mutants: tuple[Mutant, ...], folder: pathlib.Path, jobs: int, box_s: float) -> list[dict[str, object]]:
    """All rows, ``jobs`` at a time, each in a copy of its own. Exits where the tests fail without a mutant."""
    trees: queue.SimpleQueue[pathlib.Path] = queue.SimpleQueue()
    for number in range(jobs):
        tree = folder / f"tree{number}"
        tree.mkdir()
        copy_tree(tree)
        trees.put(tree)
    everything = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    came, why = run_tests(folder / "tree0", everything, 3 * box_s)
    if came != "passed":
        sys.exit(f"the tests do not pass without a mutant: {why}")

    def one(mutant: Mutant) -> dict[str, object]:
        tree = trees.get()
        row = judge(mutant, tree, box_s)
        trees.put(tree)
        print(line_of(row), flush=True)
        return row

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, mutants))


def line_of(row: dict[str, object]) -> str:
    """A row of the printed table."""
    return f"{row['mutant']:42} {row['result']:10} {row['seconds']:6} s  {row['by']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a pattern for the names of mutants")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    parser.add_argument("--box", type=float, default=BOX_S, help="seconds that one mutant's tests may take")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benchmarks" / "results" / "mutants.json")
    flags = parser.parse_args()
    if wrong := misfits(MUTANTS, ROOT):
        sys.exit("\n".join(wrong))
    chosen = tuple(mutant for mutant in MUTANTS if re.search(flags.only, mutant.name))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        rows = sweep(chosen, pathlib.Path(folder), flags.jobs, flags.box)
    seconds = round(time.perf_counter() - start)
    alive = [row for row in rows if row["result"] != "killed"]
    print(f"{len(rows) - len(alive)} of {len(rows)} killed in {seconds} s")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from bitzero.run.device import describe_machine  # imports JAX, which the parent of the tests needs last

    result = {"machine": describe_machine(), "jobs": flags.jobs, "seconds": seconds, "mutants": rows}
    flags.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    sys.exit(bool(alive))


if __name__ == "__main__":
    main()
