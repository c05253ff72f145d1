"""The three kinds of question put to the model: steps as they come, then one answer with Python's verdict on it."""

import collections
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bitzero.chat import judging, programs
from bitzero.chat.answers import Answer, Step
from bitzero.chat.intent import CallQuestion, InputQuestion, PairsQuestion
from bitzero.chat.model import ROWS, AskedModel, Bits, Wanted, draw, drawn
from bitzero.chat.programs import ProgramError
from bitzero.sandbox import Outcome, Sandbox
from bitzero.tasks import traces
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, KINDS, TASK_KINDS, Task, coverage_of
from bitzero.tasks.tokens import ANS, EOS, PAD, decode

TOO_DEEP = "it is nested too deeply to be taken apart; ask a smaller one"
WARMTH = 1.0  # temperature of the samples, that of self-play
TRIES = 16  # answers to be judged at most, where nobody asked for more
Said = str | Step | Answer  # a piece of text as it is written, a step that is complete, the answer
Judge = Callable[[Sequence[str]], list[float | None]]  # how sure it is that each answer is right; None: it is not


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Everything that an answer is made with."""

    model: AskedModel
    sandbox: Sandbox
    known: Mapping[str, str]  # remembered functions, name → source
    tries: int = TRIES  # most answers to be judged
    bits: Wanted = "auto"

    def precisions(self) -> tuple[Bits, ...]:
        """The precisions to ask at, in turn."""
        if not self.model.has_tiers:
            return ("ternary",)
        return ("ternary", "all") if self.bits == "auto" else (self.bits,)


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A question as the model is asked it, and what tells a right answer."""

    task: Task
    judge: Judge
    truth: Outcome | None = None  # what Python says to a deduction

    @property
    def kind(self) -> str:
        """Its name."""
        return KINDS[self.task.kind]

    def prompt(self, asked: Asked) -> list[int]:
        """The ids that the model is given; with a trace where it is one that writes traces."""
        return TASK_KINDS[self.task.kind].solver_prompt(self.task, asked.model.solver.trace)


def answer_to(question: CallQuestion | InputQuestion | PairsQuestion, asked: Asked, text: str) -> Iterator[Said]:
    """Text and steps as they come, then the answer. Never raises for what was asked."""
    started = time.perf_counter()
    try:
        for said in _pieces(question, asked):
            if isinstance(said, Answer):
                said = replace(said, question=text, seconds=time.perf_counter() - started)
            yield said
    except ProgramError as error:
        yield Answer(kind="error", question=text, note=str(error))
    except RecursionError:
        yield Answer(kind="error", question=text, note=TOO_DEEP)


def _pieces(question: CallQuestion | InputQuestion | PairsQuestion, asked: Asked) -> Iterator[Said]:
    if isinstance(question, CallQuestion):
        return _deduce(question, asked)
    return _search(posed(question, asked), asked)


# ---- deduction ----


def _deduce(question: CallQuestion, asked: Asked) -> Iterator[Said]:
    deduction = _pose_deduction(question, asked)
    truth, prompt = deduction.truth, deduction.prompt(asked)
    assert truth is not None
    if note := too_long(prompt, asked):
        yield Answer(kind="deduction", question="", python=judging.explained(truth), note=note)
        return
    trace = judging.trace_of(asked.sandbox, deduction.task.code, question.args)
    best: Answer | None = None
    for bits in asked.precisions():
        if best is not None:
            yield "\n"
        for said in _one_deduction(asked, prompt, trace, truth, bits):
            if isinstance(said, Answer):
                best = said
            else:
                yield said
        if best is not None and best.right is not False:
            break
    if best is not None:
        yield best


def _one_deduction(
    asked: Asked, prompt: Sequence[int], trace: Sequence[str] | None, truth: Outcome, bits: Bits
) -> Iterator[Said]:
    """One greedy trace with the samples beside it, at one precision."""
    steps: list[Step] = []
    rows: list[list[int]] = []
    for rows in draw(asked.model, prompt, [0.0] + [WARMTH] * (ROWS - 1), bits):
        told = rows[0]
        if EOS in told[:-1]:  # the samples are not done yet
            continue
        items, rest = traces.split_items(decode(told[: told.index(ANS)] if ANS in told else told))
        if ANS in told and rest:
            items = [*items, rest]
        new = _judged(items, trace)[len(steps) :]
        yield from new
        steps += new
        yield _written(told)
    answers = [TASK_KINDS[DEDUCTION].parse_answer(row) for row in rows]
    texts = dict.fromkeys(answer for answer in answers if answer)
    values = dict(zip(texts, judging.canonical_values(asked.sandbox, list(texts)), strict=True))
    found = [values.get(answer or "") or answer for answer in answers]
    known = truth.kind in ("ok", "exception", "timeout", "memory", "oversize")
    yield Answer(
        kind="deduction", question="", answer=found[0], steps=tuple(steps), python=judging.explained(truth), tries=1,
        right=(found[0] is not None and truth.kind == "ok" and found[0] == truth.value) if known else None,
        votes=_shares(found[1:]), bits=bits, note=None if found[0] else "the model did not come to an answer",
    )  # fmt: skip


def _written(told: Sequence[int]) -> str:
    """What the last id adds to the text."""
    if told[-1] in (ANS, EOS, PAD):
        return ""
    before, after = decode(told[:-1]), decode(told)
    return after.removeprefix(before)


def _judged(items: Sequence[str], trace: Sequence[str] | None) -> list[Step]:
    verdicts = judging.right_steps(items, trace)
    return [Step(text=item, right=right, python=python) for item, (right, python) in zip(items, verdicts, strict=True)]


def _shares(answers: Sequence[str | None]) -> dict[str, float]:
    """Share of the samples by answer, the most frequent first; the form None counts as a sample without answer."""
    counted = collections.Counter(answer or "(no answer)" for answer in answers)
    return {answer: round(count / len(answers), 3) for answer, count in counted.most_common(4)} if answers else {}


# ---- abduction and induction: tries until one verifies ----


def posed(question: CallQuestion | InputQuestion | PairsQuestion, asked: Asked) -> Posed:
    """The question as a prompt, with a judge of answers. Raises ``ProgramError`` where there is no such question."""
    if isinstance(question, CallQuestion):
        return _pose_deduction(question, asked)
    return _pose_abduction(question, asked) if isinstance(question, InputQuestion) else _pose_induction(question, asked)


def _pose_deduction(question: CallQuestion, asked: Asked) -> Posed:
    code = programs.program_of(question.source, question.name, asked.known)
    truth = judging.value_of(asked.sandbox, code, question.args)

    def judge(answers: Sequence[str]) -> list[float | None]:
        values = judging.canonical_values(asked.sandbox, answers)
        return [1.0 if truth.kind == "ok" and value == truth.value else None for value in values]

    return Posed(task=_task(DEDUCTION, code, (question.args,), ("",)), judge=judge, truth=truth)


def _pose_abduction(question: InputQuestion, asked: Asked) -> Posed:
    name = question.name or (list(asked.known)[-1] if asked.known else "")
    if not name:
        raise ProgramError("no function is there to search: write def f(a): return a + 1 first")
    code = programs.program_of(question.source, name, asked.known)
    [value] = judging.canonical_values(asked.sandbox, [question.value])
    if value is None:
        raise ProgramError(f"{question.value[:40]} is no value that the sandbox knows")

    def judge(answers: Sequence[str]) -> list[float | None]:
        runs = judging.reaches(asked.sandbox, code, answers, value)
        return [run.confidence if run else None for run in runs]

    return Posed(task=_task(ABDUCTION, code, ("",), (value,)), judge=judge)


def _pose_induction(question: PairsQuestion, asked: Asked) -> Posed:
    values = judging.canonical_values(asked.sandbox, question.outputs)
    if None in values:
        raise ProgramError(f"{question.outputs[values.index(None)][:40]} is no value that the sandbox knows")
    outputs = tuple(map(str, values))
    shown = min(asked.model.solver.cfg.tasks.shown, len(outputs))
    sure = coverage_of(len(outputs), len(outputs))

    def judge(answers: Sequence[str]) -> list[float | None]:
        runs = judging.pairs_met(asked.sandbox, answers, question.inputs, outputs)
        return [confidence * sure if met == len(outputs) else None for met, confidence in runs]

    return Posed(task=_task(INDUCTION, "", question.inputs, outputs, shown), judge=judge)


def _search(search: Posed, asked: Asked) -> Iterator[Said]:
    """Batches of answers, judged as they come in; ends with the first that verifies, or the most frequent."""
    name, prompt = search.kind, search.prompt(asked)
    if note := too_long(prompt, asked):
        yield Answer(kind=name, question="", note=note)
        return
    seen: collections.Counter[str] = collections.Counter()
    tried = 0
    bits: Bits = "all"
    for bits in asked.precisions():
        for start in range(0, asked.tries, ROWS):
            answers = sample_answers(search, asked, bits, greedy=start == 0)[: asked.tries - start]
            verdicts = confidences(answers, search.judge)
            for answer in answers:
                tried += 1
                if answer and (confidence := verdicts[answer]) is not None:
                    yield Answer(
                        kind=name, question="", answer=answer, right=True, tries=tried, bits=bits,
                        confidence=round(confidence, 3),
                    )  # fmt: skip
                    return
            seen.update(answer for answer in answers if answer)
            yield "."
    guess = seen.most_common(1)[0][0] if seen else None
    note = None if guess else "none of the tries had the form of an answer"
    yield Answer(kind=name, question="", answer=guess, right=False, tries=tried, bits=bits, note=note)


def sample_answers(question: Posed, asked: Asked, bits: Bits, *, greedy: bool) -> list[str | None]:
    """``ROWS`` answers at one precision, the first without chance where ``greedy``; None where the form is wrong."""
    temperatures = [0.0 if greedy else WARMTH] + [WARMTH] * (ROWS - 1)
    rows = drawn(asked.model, question.prompt(asked), temperatures, bits)
    return [TASK_KINDS[question.task.kind].parse_answer(row) for row in rows]


def confidences(answers: Sequence[str | None], judge: Judge) -> dict[str, float | None]:
    """What the judge says of each answer that has the form of one; equal answers are judged once."""
    distinct = list(dict.fromkeys(answer for answer in answers if answer))
    return dict(zip(distinct, judge(distinct), strict=True)) if distinct else {}


def _task(kind: int, code: str, inputs: tuple[str, ...], outputs: tuple[str, ...], shown: int = 1) -> Task:
    """A task without gold: it is asked, never judged by ``tasks.judge``."""
    return Task(kind=kind, level=0, code=code, inputs=inputs, outputs=outputs, shown=shown)


def too_long(prompt: Sequence[int], asked: Asked) -> str | None:
    """Why the model cannot read the prompt; None where it can."""
    if len(prompt) <= asked.model.longest_prompt:
        return None
    return (
        f"the question takes {len(prompt)} tokens and the model reads {asked.model.longest_prompt}; "
        "ask a shorter program or smaller values"
    )
