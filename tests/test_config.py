"""A configuration that cannot run is one line that a person can act on."""

import dataclasses

import pytest

from bitzero import config as configuration
from bitzero.config import Config, ConfigError, checks
from bitzero.run import experiment
from bitzero.tasks.kinds import KINDS


def refused(**settings):
    """The sentence for the defaults with ``settings`` (``group__name=value``) changed."""
    config = configuration.default()
    with pytest.raises(ConfigError) as caught:
        for key, value in settings.items():
            experiment.override_setting(config, key.replace("__", "."), str(value))
        configuration.freeze(config)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_the_defaults_freeze_to_the_dataclasses_and_hash():
    cfg = configuration.freeze(configuration.default())
    assert cfg == Config() and hash(cfg) == hash(Config())
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.seed = 1


def test_the_kinds_a_setting_may_name_are_those_there_are():
    assert checks.KIND_NAMES == KINDS


def test_overrides_take_the_type_of_the_default():
    config = configuration.default()
    for key, text in {"seed": "3", "optimiser.lr": "1e-3", "model.remat": "true", "model.compute": "f32"}.items():
        experiment.override_setting(config, key, text)
    cfg = configuration.freeze(config)
    assert (cfg.seed, cfg.optimiser.lr, cfg.model.remat, cfg.model.compute) == (3, 1e-3, True, "f32")


def test_a_whole_number_may_stand_for_a_number():
    config = configuration.default()
    config.optimiser.lr = 1
    assert configuration.freeze(config).optimiser.lr == 1.0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"warmup__stpes": 3}, "unknown key config.warmup.stpes; did you mean config.warmup.steps?"),
        ({"modle__width": 3}, "unknown key config.modle; did you mean config.model?"),
        ({"group_sise": 3}, "unknown key config.group_sise; did you mean config.selfplay.group_size?"),
        ({"seed__x": 3}, "unknown key config.seed.x; did you mean config.seed?"),
        ({"model__width": "wide"}, "config.model.width must be a whole number, not 'wide'"),
        ({"model__width": 1.5}, "config.model.width must be a whole number, not '1.5'"),
        ({"optimiser__lr": "nan"}, "config.optimiser.lr must be finite, not nan"),
        ({"model__remat": "maybe"}, "config.model.remat must be true or false, not 'maybe'"),
        ({"model__width": -128}, "config.model.width must be at least 1; it is -128"),
        ({"warmup__batch_size": 0}, "config.warmup.batch_size must be at least 1; it is 0"),
        ({"optimiser__lr": -1}, "config.optimiser.lr must not be negative; it is -1.0"),
        ({"model__compute": "f64"}, "config.model.compute must be one of auto, f32, bf16, int8; it is 'f64'"),
        (
            {"selfplay__min_sigma": 0.0},
            "config.selfplay.min_sigma=0.0, temperature=1.0 and answer_temperature=1.0 must be above 0: rewards are "
            "divided by the first, and rollouts are drawn at the others",
        ),
        ({"optimiser__microbatches": 5}, "config.optimiser.microbatches=5 must divide warmup.batch_size=32"),
        ({"optimiser__microbatches": 32}, "config.optimiser.microbatches=32 must divide selfplay.supervised_batch=48"),
        (
            {"selfplay__rollout_parts": 3},
            "config.selfplay.rollout_parts=3 must divide num_tasks × group_size=128",
        ),
        (
            {"selfplay__level_budget": True},
            "config.selfplay.level_budget=True shares out the learnt_groups, and there are none: set that number",
        ),
        (
            {"optimiser__row_beta": 0.9, "optimiser__weight_decay": 0.1},
            "config.optimiser.row_beta=0.9 and weight_decay=0.1 exclude each other: set row_beta=1 or weight_decay=0",
        ),
        (
            {"selfplay__kinds": "abduction,adduction"},
            "config.selfplay.kinds=abduction,adduction: no kind 'adduction'; there is: deduction, abduction, induction",
        ),
        ({"eval__parts": 3}, "config.eval.parts=3 must divide batch_size=100"),
        ({"model__num_kv_heads": 3}, "config.model.num_kv_heads=3 must divide num_heads=4"),
        ({"model__head_dim": 31}, "config.model.head_dim=31 must be even: RoPE turns pairs"),
        ({"selfplay__group_size": 1}, "config.selfplay.group_size=1 must be at least 2: the baseline leaves one out"),
        ({"selfplay__history": 1000}, "config.selfplay.history=1000 must be a power of two"),
        (
            {"warmup__deduction": 0.5},
            "config.warmup.deduction, abduction, induction and propose must sum to 1; they sum to 0.9",
        ),
        ({"run__chunk": 7}, "config.run.chunk=7 must divide run.save_every=200: chunks end at every boundary"),
        ({"selfplay__steps": 170}, "config.run.chunk=20 must divide selfplay.steps=170: chunks end at every boundary"),
        ({"tasks__shown": 6}, "config.tasks.shown=6 must be below pairs=6: the rest is hidden"),
        (
            {"precision__budget": 1.9},
            "config.precision.budget=1.9 must be at least 2.0, the stored bits of a ternary weight",
        ),
        (
            {"precision__budget": 10.1},
            "config.precision.budget=10.1 must be at most 10.0130, every block promoted, with model.max_tier=8",
        ),
        (
            {"precision__budget": 2.5, "model__max_tier": 0},
            "config.precision.budget=2.5 must be at most 2.0000, every block promoted, with model.max_tier=0",
        ),
        (
            {"precision__budget": 3, "precision__policy": "progressive", "precision__start_budget": 2.5},
            "config.precision.start_budget=2.5 must not be below budget=3.0",
        ),
        (
            {"precision__budget": 3, "model__weights": "int4"},
            "config.precision.budget=3.0 needs model.weights=ternary, not int4",
        ),
        (
            {"precision__policy": "refresh", "model__max_tier": 0},
            "config.precision.policy=refresh needs model.max_tier=4 or 8 and model.weights=ternary",
        ),
        (
            {"precision__policy": "progressive", "precision__phase_steps": 1000},
            "config.precision.policy=progressive never comes to a refresh: phase_steps × refresh_every is 1000 "
            "and λ is 1 for 1060 steps; make phases shorter",
        ),
        (
            {"precision__budget": 3, "precision__signal": "static", "precision__scope": "kind"},
            "config.precision.signal=static needs scope=model: it says nothing of some kinds",
        ),
        (
            {"precision__budget": 3, "warmup__ramp_start": 0, "warmup__ramp_end": 0},
            "config.precision.signal=fisher is measured before λ = 1: warmup.ramp_end must be above 0",
        ),
        (
            {"precision__policy": "by_level", "warmup__ramp_start": 0, "warmup__ramp_end": 0},
            "config.precision.signal=fisher is measured before λ = 1: warmup.ramp_end must be above 0",
        ),
        (
            {
                "precision__kinds": "o",
                "precision__start_budget": 2.5,
                "precision__policy": "progressive",
                "precision__signal": "attention",
            },
            "config.precision.signal=attention is about q, k and v: precision.kinds=o must hold qkv",
        ),
        (
            {"precision__kinds": "qkv,ffn"},
            "config.precision.kinds must be some of qkv,o,gate_up,down, each once; it is 'qkv,ffn'",
        ),
        (
            {"precision__kinds": "o", "precision__budget": 3.0},
            "config.precision.budget=3.0 must be at most 2.6680, every block of o promoted, with model.max_tier=8",
        ),
        (
            {"precision__kinds": "o", "precision__budget": 2.1, "precision__signal": "attention"},
            "config.precision.signal=attention is about q, k and v: precision.kinds=o must hold qkv",
        ),
        (
            {"precision__hysteresis": 0.9},
            "config.precision needs 0 < settle ≤ 1, max_swaps ≤ 1 and hysteresis ≥ 1",
        ),
        (
            {"precision__signal": "hessian"},
            "config.precision.signal must be one of fisher, activation, attention, magnitude, static, random; "
            "it is 'hessian'",
        ),
        (
            {"precision__phase_steps": 30},
            "config.run.chunk=20 must divide precision.phase_steps=30: chunks end at every boundary",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_what_cannot_run_is_refused(settings, sentence):
    assert refused(**settings) == sentence


def test_a_group_is_not_a_setting():
    assert refused(eval=3).startswith("config.eval is a group of settings; set one of: batch_size, items")


def test_an_experiment_with_a_wrong_type_is_refused():
    tree = dataclasses.asdict(Config())
    tree["model"]["width"] = "wide"
    with pytest.raises(ConfigError, match=r"config\.model\.width must be a whole number, not 'wide'"):
        configuration.freeze(tree)
