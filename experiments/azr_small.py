"""The main job: a ternary reasoner from random weights with zero external data, on two CPU cores or a small GPU.

    python launch.py --config=experiments/azr_small.py          26 to 29 minutes on 2 cores with AVX-512, 43 without
    python launch.py --config=experiments/azr_small.py:hour     half again as wide, 69 minutes

Expected: see the README for the table that the last measured run printed.
"""

import ml_collections

from bitzero import config as configuration


def get_config(variant: str | None = None) -> ml_collections.ConfigDict:
    """The job as measured (None), or what an hour is better spent on ("hour")."""
    config = configuration.default()
    config.name = "azr_small"
    config.model.update(num_layers=4, width=128, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=256)
    config.model.update(smear=2, conv=4, max_tier=0)
    config.model.update(value_embeddings=True, input_skips=True, qk_norm=True)
    config.optimiser.update(lr=4.5e-3, lr_gains=1.33, row_beta=0.95)
    config.tasks.update(context=128, prompt=112, completion=64, productions="learnable", levels="learnable")
    config.tasks.update(unlock_every=800)  # a reading of dev takes as long as fifty steps
    config.warmup.update(steps=14_400, batch_size=16, trace=0.9, simplest=True)
    # Many answers a step, the most telling groups learned from, at a small rate and near the greedy answer, the
    # generator's rows beside them: what self-play needs to win more than its noise loses (log).
    config.selfplay.update(steps=100, num_tasks=64, learnt_groups=24, seed_tasks=4_096, answer_temperature=0.6)
    config.selfplay.update(lr=5e-4, lr_flat=0.4, supervised_batch=48, supervised=0.6, proposer=0.1)
    config.selfplay.update(stale=0.25, off_level=0.5)
    if variant == "hour":
        config.name = "azr_small_hour"
        # As the model to take home, but ternary alone and of three levels.
        config.model.update(width=192, num_heads=6, ffn_width=384)
        config.warmup.steps = 27_200
    elif variant is not None:
        raise configuration.ConfigError(f"unknown variant {variant!r}; there is: hour")
    return config
