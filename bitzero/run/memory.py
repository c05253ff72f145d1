"""What each kind of step of a run needs of the device's memory, by the compiler's own count.

The programs are those that the run will call, with the shapes that it will call them with, so that what is compiled to
be counted is found in the compile cache when it is called. A self-play step calls the host and cannot be cached: its
two large parts, which never live at once, stand for it, the rollouts and the update.
"""

import dataclasses
import functools
from collections.abc import Callable, Container, Iterator
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from bitzero.config import NUM_PRODUCTIONS, VOCAB_SIZE, Config, rollout_parts, update_parts, with_parts
from bitzero.evaluation import questions
from bitzero.generator.orders import examples_at_most
from bitzero.model import quant
from bitzero.model.cache import empty_cache
from bitzero.selfplay import loop, rollout, schedule, warmup
from bitzero.state import Credit, Judged, Proposals, Rollout, Slots, Supervised, TrainState

Cut = Literal["updates", "rollouts", "asking"]  # what may be cut into parts: the keywords of `config.with_parts`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program of a run, and the shapes it is called with."""

    what: str  # for people
    cfg: Config
    cut: Cut
    function: Any  # jitted
    arguments: tuple[Any, ...]
    named: dict[str, Any] = dataclasses.field(default_factory=dict)
    beside: int = 0  # bytes that are held meanwhile and are no argument


def step_programs(cfg: Config, cuts: Container[Cut] = get_args(Cut)) -> Iterator[Program]:
    """The programs of a run of ``cfg``, whose operand type is settled, in the order in which it comes to them."""
    if "updates" in cuts:
        yield from _warmup_programs(cfg, state_of(cfg))
    last = playing_state_of(cfg) if cfg.selfplay.steps else state_of(cfg)
    if "rollouts" in cuts and cfg.selfplay.steps:
        yield _rollout_program(cfg, last)
    if "updates" in cuts and cfg.selfplay.steps:
        arguments = (last, *_learnt_from(cfg), cfg)
        yield Program(what="self-play, update", cfg=cfg, cut="updates", function=_learn, arguments=arguments)
    if "asking" in cuts:
        yield from _asking_programs(cfg, last)


def _warmup_programs(cfg: Config, state: TrainState) -> Iterator[Program]:
    """A chunk of each phase that has steps."""
    batch, starts = generated(cfg, cfg.warmup.batch_size, (cfg.run.chunk,)), [*schedule.ramp_steps(cfg)]
    for phase, first, end in zip(schedule.WARMUP_PHASES, [0, *starts], [*starts, cfg.warmup.steps], strict=True):
        if first < end:
            arguments = (state, batch, cfg, phase, (0, 1))
            yield Program(
                what=f"warm-up, {phase}", cfg=cfg, cut="updates", function=warmup.run_chunk, arguments=arguments
            )


def _rollout_program(cfg: Config, state: TrainState) -> Program:
    """The answers of a self-play step: its largest rollout, beside the state."""
    sp, weights = cfg.selfplay, materialised(cfg, state)
    prompts = _shape((sp.num_tasks, cfg.tasks.prompt), jnp.uint16)
    named = {
        "model": cfg.model, "max_new": cfg.tasks.completion, "temperature": sp.answer_temperature,
        "copies": sp.group_size, "parts": rollout_parts(cfg),
    }  # fmt: skip
    return Program(
        what="self-play, rollouts", cfg=cfg, cut="rollouts", function=_sample, arguments=(_key(), weights, prompts),
        named=named, beside=size_of(state),
    )  # fmt: skip


def _asking_programs(cfg: Config, state: TrainState) -> Iterator[Program]:
    """Evaluation's two halves of an answer, beside the state and the weights of one more model."""
    weights = materialised(cfg, state)
    rows, new = cfg.eval.batch_size // max(cfg.eval.parts, 1), max(cfg.tasks.answer, cfg.tasks.completion)
    prompts = _shape((rows, cfg.tasks.prompt), jnp.uint16)
    logits = _shape((rows, VOCAB_SIZE), jnp.float32)
    cache = jax.eval_shape(lambda: empty_cache(cfg.model, rows, cfg.tasks.prompt + new))
    here = functools.partial(Program, cfg=cfg, cut="asking", beside=size_of(state) + size_of(weights))
    yield here(
        what="evaluation, prompts", function=questions.prefill, arguments=(weights, prompts),
        named={"model": cfg.model, "max_new": new},
    )  # fmt: skip
    place = {} if rows == cfg.eval.batch_size else {"first": _shape((), jnp.int32), "rows": cfg.eval.batch_size}
    yield here(
        what="evaluation, answers", function=questions.decode, arguments=(_key(), weights, prompts, logits, cache),
        named={"model": cfg.model, "temperature": _shape((), jnp.float32), **place},
    )  # fmt: skip


def state_of(cfg: Config) -> TrainState:
    """The shapes of a run's state in warm-up."""
    return _state_of(with_parts(cfg, updates=1, rollouts=1, asking=1))


def playing_state_of(cfg: Config) -> TrainState:
    """The shapes of a run's state in self-play, the frozen reference policy among them where there is one."""
    return _playing_state_of(with_parts(cfg, updates=1, rollouts=1, asking=1))


@functools.lru_cache(maxsize=4)
def _state_of(cfg: Config) -> TrainState:
    return jax.eval_shape(lambda: warmup.init_state(cfg))


@functools.lru_cache(maxsize=4)
def _playing_state_of(cfg: Config) -> TrainState:
    first = cfg.warmup.steps + 1  # of which a checkpoint holds what self-play begins with
    return questions.checkpoint_structure(cfg)(first, {"operand": quant.operand_of(cfg.model)})


def materialised(cfg: Config, state: TrainState) -> Any:
    """The shapes of the weights that rollouts use: one operand or scale for every latent weight and row."""
    return jax.eval_shape(
        lambda params, tiers: quant.materialise(params, tiers, cfg.model), state.params, state.precision
    )


def needed_bytes(program: Program, place: Callable[[Any], Any] = lambda leaf: leaf, **lowering: Any) -> int:
    """Bytes of the device's memory while ``program`` runs, all that it is given among them; compiles it.

    ``place`` says where an argument is (``ahead.py`` of the tests: on a GPU that is not there).
    """
    placed = lambda tree: jax.tree.map(
        lambda leaf: place(leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, tree
    )
    traced = program.function.trace(*placed(program.arguments), **placed(program.named))
    size = traced.lower(**lowering).compile().memory_analysis()
    own = size.argument_size_in_bytes + size.output_size_in_bytes + size.temp_size_in_bytes - size.alias_size_in_bytes
    return program.beside + own


def estimated_bytes(program: Program) -> int:
    """About what ``needed_bytes`` counts in f32, without compiling; within a third for the shipped experiments.

    An update: the state, two copies of the gradient (self-play: three, as it has the sum over the roles too), and for
    each token what its layers keep for the backward pass, twice what the layer at hand computes, three times its
    attention weights, four rows of logits (five beside a reference policy's). Rollouts and answers: the weights, the
    cache of the prompts and that of the answers (a loop's argument and its carry), one layer's attention weights over
    the prompts, each of which is read once for all its answers.
    """
    cfg, model = program.cfg, program.cfg.model
    heads, keys = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    if program.cut == "updates":
        kept = model.width if model.remat else 2 * model.width + 2 * heads + 2 * keys + 2 * model.ffn_width
        layer = 2 * (heads + 2 * keys + 3 * model.ffn_width + model.width)
        tokens, state = _tokens_at_once(program), program.arguments[0]
        logits = VOCAB_SIZE * (4 if state.reference is None else 5)
        a_token = model.num_layers * kept + layer + 3 * model.num_heads * cfg.tasks.context + logits
        gradients = size_of(state.params) * (2 if program.function is warmup.run_chunk else 3)
        return size_of(state) + gradients + 4 * tokens * a_token
    rows, slots = _rows_and_slots(program)
    copies = cfg.selfplay.group_size if program.cut == "rollouts" and rows % cfg.selfplay.group_size == 0 else 1
    prompts = rows // copies
    cache = (rows + prompts) * slots * model.num_layers * 2 * keys
    attention = 2 * prompts * cfg.tasks.prompt * model.num_heads * slots
    return program.beside + size_of(materialised(cfg, state_of(cfg))) + 4 * (cache + attention)


def _tokens_at_once(program: Program) -> int:
    """Tokens of the largest backward pass of an update: self-play has one for each role."""
    cfg, sp = program.cfg, program.cfg.selfplay
    if program.function is warmup.run_chunk:
        return cfg.warmup.batch_size * cfg.tasks.context // update_parts(cfg)
    answers = (sp.learnt_groups or sp.num_tasks) * sp.group_size
    played = max(sp.num_tasks, answers) * (cfg.tasks.prompt + cfg.tasks.completion)
    return max(sp.supervised_batch * cfg.tasks.context, played) // update_parts(cfg)


def _rows_and_slots(program: Program) -> tuple[int, int]:
    """Rows that are sampled at once, and the tokens that each may have."""
    cfg = program.cfg
    if program.cut == "rollouts":
        rows = cfg.selfplay.num_tasks * cfg.selfplay.group_size // rollout_parts(cfg)
        return rows, cfg.tasks.prompt + cfg.tasks.completion
    new = max(cfg.tasks.answer, cfg.tasks.completion)
    return cfg.eval.batch_size // max(cfg.eval.parts, 1), cfg.tasks.prompt + new


def size_of(tree: Any) -> int:
    """Bytes of all leaves of a tree of arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


_sample = jax.jit(rollout.sample, static_argnames=("model", "max_new", "copies", "parts"))
_learn = jax.jit(loop.learn, static_argnames="cfg", donate_argnames="state")


def _shape(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array's shape and type, in the place of the array."""
    return jax.ShapeDtypeStruct(shape, dtype)


def _key() -> Any:
    """The shape of a random key."""
    return jax.eval_shape(lambda: jax.random.key(0))


def _learnt_from(cfg: Config) -> tuple[Any, ...]:
    """What the update of a self-play step learns from: the arguments of ``loop.learn`` between state and ``cfg``."""
    sp, tasks = cfg.selfplay, cfg.tasks
    n, g, f32, i32, flag = sp.num_tasks, sp.group_size, jnp.float32, jnp.int32, jnp.bool_
    played = lambda rows: Rollout(
        tokens=_shape((rows, tasks.completion), i32), logprobs=_shape((rows, tasks.completion), f32),
        mask=_shape((rows, tasks.completion), flag),
    )  # fmt: skip
    each = _shape((n,), i32)
    proposals = Proposals(prompt=_shape((n, tasks.prompt), i32), kind=each, level=each, rollout=played(n))
    slots = Slots(
        prompt=_shape((n, tasks.prompt), jnp.uint16), record=_shape((n, tasks.record), jnp.uint16), kind=each,
        asked_kind=each, asked_level=each, gate=each, level=each, own=_shape((n,), flag), novel=_shape((n,), flag),
        first=_shape((n,), flag), confidence=_shape((n,), f32), place=each,
    )  # fmt: skip
    judged = Judged(reward=_shape((n, g), f32), counted=_shape((n, g), flag), trivial=_shape((n,), flag))
    paid = _shape((n,), f32)
    credit = Credit(rate=paid, propose_reward=paid, propose_advantage=paid, solve_advantage=_shape((n, g), f32))
    return proposals, slots, played(n * g), judged, credit, generated(cfg, sp.supervised_batch)


def generated(cfg: Config, rows: int, lead: tuple[int, ...] = ()) -> Supervised:
    """The shapes of so many rows of the generator, as `train.supervised` has them."""
    of_tokens = lambda dtype: _shape((*lead, rows, cfg.tasks.context), dtype)
    of_examples = lambda dtype, *more: _shape((*lead, rows, examples_at_most(cfg.tasks.context), *more), dtype)
    return Supervised(
        tokens=of_tokens(jnp.uint16), mask=of_tokens(jnp.bool_), kind=of_examples(jnp.int8),
        level=of_examples(jnp.int8), skeleton=of_examples(jnp.uint32),
        productions=of_examples(jnp.uint8, -(-NUM_PRODUCTIONS // 8)) if state_of(cfg).mix is not None else None,
    )  # fmt: skip
