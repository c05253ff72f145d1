"""The ternary transformer: a decoder in Flax Linen, after BitNet b1.58 2B4T (arXiv 2504.12285), tied embedding.

Its layers (``block``) run under ``nn.scan``; the KV cache is an explicit argument that travels in the scan's carry (as
scan inputs and outputs it would be copied at every token, 2.5–3× slower).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from bitzero.config import PAD, VOCAB_SIZE, Model, kernel_shapes
from bitzero.model import native, quant
from bitzero.model.attention import AttentionProbe, unit_rms
from bitzero.model.block import Block, RMSNorm, Shared
from bitzero.model.cache import Cache
from bitzero.native import functions

# What a layer keeps for its backward pass, by ``model.remat``. False: the outputs of the big products, as norms,
# roundings and the softmax are cheaper to compute again than to store and fetch. True: nothing but the layer's input.
_REMAT = {
    False: jax.checkpoint_policies.save_only_these_names("qkv", "attended", "gate_up"),
    True: jax.checkpoint_policies.nothing_saveable,
}
PLAIN = functions.Head()  # the distribution of the logits as they are


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to come out of the last layer: logits of every position, if nothing else is said."""

    last: int | None = None  # of so many last positions alone
    asked: Bool[Array, "B T"] | None = None  # in training with native layers: of these positions alone
    following: Int[Array, "B T"] | None = None  # not logits but ``functions.answer_losses`` of what follows them
    head: functions.Head = PLAIN  # of these losses


class Transformer(nn.Module):
    """Token ids [B, T, 1 + smear] (``with_preceding``) to next-token logits [B, T, V], and the cache.

    The embeddings of the ``smear`` tokens before a token, each under a gain of its own, are added to the token's: a
    layer can then match pairs and triples of tokens at once, which is what copying needs. Of the eight arguments,
    ``cache`` and ``slot`` are for decoding, ``lam`` and ``probe`` for training.
    """

    model: Model

    @nn.compact
    def __call__(
        self, tokens: Array, positions: Array, mask: Array, cache: Any, slot: Array, lam: Array | None, probe: Any,
        wanted: Wanted = Wanted(),
    ) -> Any:  # fmt: skip
        model, dtype = self.model, quant.float_type(quant.operand_of(self.model))
        embedding = self.param("embedding", nn.initializers.normal(model.width**-0.5), (VOCAB_SIZE, model.width))
        smear = None
        if model.smear:
            smear = self.param("smear", nn.initializers.normal(0.5 * model.width**0.5), (model.smear, model.width))
        x = _embedded(tokens, embedding, smear)
        in_cpp = mask.ndim == 2  # segments
        if in_cpp:
            x = jnp.where(mask[..., None] != 0, x, 0.0)
        block = Block if in_cpp and not model.remat else nn.remat(Block, prevent_cse=False, policy=_REMAT[model.remat])
        layers = nn.scan(
            block,
            variable_axes={"params": 0, "precision": 0, "taps": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=model.num_layers,
            unroll=model.num_layers if in_cpp else 1,  # a loop would copy what a layer keeps for its backward pass
        )(model, name="layers")
        shared = Shared(
            turns=_turns(positions, model), mask=None if in_cpp else mask, segments=mask if in_cpp else None,
            slot=slot, lam=lam, probe=probe, tokens=tokens[..., 0], positions=positions, start=x, asked=wanted.asked,
        )  # fmt: skip
        (x, cache, _), _ = layers((x, cache, jnp.int32(0)), shared)
        x = RMSNorm(name="final_norm")(x if wanted.last is None else x[:, -wanted.last :])
        if wanted.following is not None:
            return functions.answer_losses(wanted.head, x, embedding, wanted.following), cache
        return quant.contraction("BTD,VD->BTV", x, embedding, dtype), cache


def _embedded(tokens: Int[Array, "B T lags"], embedding: Array, smear: Array | None) -> Float[Array, "B T D"]:
    """The residual stream before the first layer."""
    x = embedding[tokens[..., 0]] * embedding.shape[1] ** 0.5
    if smear is None:
        return x
    before = jnp.where(tokens[..., 1:, None] != PAD, embedding[tokens[..., 1:]], 0.0)
    return x + jnp.sum(before * smear[None, None], axis=2)  # an einsum would become a product batched over D


def _turns(positions: Int[Array, "B T"], model: Model) -> tuple[Float[Array, "B T half"], Float[Array, "B T half"]]:
    """Cosine and sine of the rotary embedding's angles."""
    half = model.head_dim // 2
    angles = positions[..., None] * jnp.broadcast_to(
        model.rope_theta ** (-jnp.arange(half) / half), (*positions.shape, half)
    )
    return jnp.cos(angles), jnp.sin(angles)


def causal_mask(segments: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
    """True where a position attends to another: itself and earlier ones of its segment. Segment 0 is padding."""
    t = segments.shape[1]
    same = segments[:, :, None] == segments[:, None, :]
    return jnp.tril(jnp.ones((t, t), bool))[None] & same & (segments != 0)[:, None, :]


def positions_of(segments: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Position of each token in its segment, from 0."""
    at = jnp.broadcast_to(jnp.arange(segments.shape[1]), segments.shape)
    first = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return at - jax.lax.cummax(jnp.where(first, at, 0), axis=1)


def with_preceding(tokens: Int[Array, "B T"], segments: Int[Array, "B T"], smear: int) -> Int[Array, "B T lags"]:
    """Each token followed by the ``smear`` tokens before it in its segment, nearest first; PAD where there is none."""
    lags = [tokens]
    for back in range(1, smear + 1):
        shift = lambda a: jnp.pad(a, ((0, 0), (back, 0)))[:, : a.shape[1]]  # noqa: B023 used at once
        lags.append(jnp.where(shift(segments) == segments, shift(tokens), PAD))
    return jnp.stack(lags, axis=-1)


def init(key: PRNGKeyArray, model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    """Random latents ``params`` (f32) and the ``precision`` collection (all tiers zero)."""
    tokens = jnp.zeros((1, 2, 1 + model.smear), jnp.int32)
    segments = jnp.ones((1, 2), jnp.int32)
    variables = Transformer(dataclasses.replace(model, compute="f32", layers="xla")).init(
        key, tokens, positions_of(segments), causal_mask(segments), None, jnp.int32(0), None, None
    )
    return variables["params"], variables["precision"]


def apply(
    params: dict[str, Any],
    precision: dict[str, Any],
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    model: Model,
    lam: Float[Array, ""] | None = None,
    *,
    taps: dict[str, Any] | None = None,
    answers: Bool[Array, "B T"] | None = None,
    sources: Bool[Array, "B T"] | None = None,
) -> Float[Array, "B T V"]:
    """Next-token logits of whole sequences; ``lam`` None is λ = 1 (integers).

    ``segments`` numbers the examples packed into a row, each attending to itself alone; 0 is padding. The keyword
    arguments, which make nine of six, are for measuring the precision signals: with ``taps`` (``zero_taps``),
    ``answers`` (True on positions whose next token is a target) and ``sources`` (True on positions that an answer reads
    from), the gradient with respect to ``taps`` holds what the signals are made of. Native layers give logits at
    ``answers`` alone, where there are any.
    """
    asked = answers if model.native else None
    return _outputs(params, precision, tokens, segments, model, lam, (taps, answers, sources), Wanted(asked=asked))


def answer_losses(
    params: dict[str, Any],
    precision: dict[str, Any],
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    model: Model,
    lam: Float[Array, ""] | None = None,
    *,
    taps: dict[str, Any] | None = None,
    answers: Bool[Array, "B T"],
    sources: Bool[Array, "B T"] | None = None,
    head: functions.Head = PLAIN,
) -> tuple[Float[Array, "B T"], Float[Array, "B T"], Float[Array, "..."]]:
    """At the position before each target: −log p, 1 if it is the likeliest, the entropy if ``head`` asks; else 0.

    For training with native layers; no array of logits is made. The other arguments are those of ``apply``.
    """
    following = jnp.where(answers, jnp.pad(tokens[:, 1:], ((0, 0), (0, 1))), -1)
    wanted = Wanted(asked=answers, following=following, head=head)
    return _outputs(params, precision, tokens, segments, model, lam, (taps, answers, sources), wanted)


def _outputs(params, precision, tokens, segments, model, lam, watched, wanted):
    """What is ``wanted``; ``watched`` are taps, answers and sources, the other arguments those of ``apply``."""
    if model.weights == "full":
        params = quant.unquantised(params, model)
    variables = {"params": params, "precision": precision}
    probe, (taps, answers, sources) = None, watched
    if taps is not None:
        assert answers is not None and sources is not None
        variables["taps"] = taps
        probe = AttentionProbe(source=jnp.float32(sources), answers=jnp.float32(answers), tap=None)
    result, _ = Transformer(model).apply(
        variables,
        with_preceding(tokens, segments, model.smear),
        positions_of(segments),
        segments.astype(jnp.int32) if model.native else causal_mask(segments),
        None,
        jnp.int32(0),
        lam,
        probe,
        wanted,
    )
    return result


def zero_taps(model: Model) -> dict[str, Any]:
    """Zeros whose gradients are statistics: mean(x²) of each kernel's inputs [L, K], the attention signal [L, H]."""
    zeros = lambda n: jnp.zeros((model.num_layers, n))
    squares = {name: {"square": zeros(k)} for name, (_, k) in kernel_shapes(model).items()}
    return {"layers": {**squares, "heads": zeros(model.num_heads)}}


def apply_cached(
    weights: dict[str, Any],
    tokens: Int[Array, "B T lags"],
    positions: Int[Array, "B T"],
    mask: Bool[Array, "B T S"],
    cache: Cache,
    slot: Int[Array, ""],
    model: Model,
    last: int | None = None,
) -> tuple[Float[Array, "B _ V"], Cache]:
    """Logits of T new tokens, or of so many ``last`` ones, and the cache with their keys and values from ``slot`` on.

    ``weights`` are those of ``quant.materialise`` or packed, ``tokens`` those of ``with_preceding``; what ``mask`` lets
    a token see are the slots from the first of its sequence up to its own. Nothing is asked of a sequence whose
    position is negative: it has ended. Eight arguments: weights, model, the two parts of the cache, what is to be known
    of each new token, and what is wanted.
    """
    stack = native.stack_of(weights["layers"], model) if model.native else None
    if stack is None:
        wanted = Wanted(last=last)
        return Transformer(model).apply({"params": weights}, tokens, positions, mask, cache, slot, None, None, wanted)
    x = _embedded(tokens, weights["embedding"], weights.get("smear"))
    extra = native.value_embeddings(weights["layers"], tokens[..., 0])
    first = jnp.argmax(mask[:, -1], axis=-1).astype(jnp.int32)
    held = cache.key, cache.value, cache.recent
    x, held = functions.decode_layers(stack, x, extra, _turns(positions, model), first, positions, slot, held)
    x = unit_rms(x if last is None else x[:, -last:]) * weights["final_norm"]["gain"][None, None]
    key, value, recent = held
    return jnp.einsum("BTD,VD->BTV", x, weights["embedding"]), Cache(key=key, value=value, recent=recent)
