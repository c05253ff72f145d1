"""The whole main job at toy size: warm-up, self-play, evaluation in about a minute on 2 cores.

    python launch.py --config=experiments/smoke.py

Expected: under 60 seconds. It shows that every part works, not that the model learned: 48 updates of a tiny model
reach little more than well-formed answers.
"""

import ml_collections

from bitzero import config as configuration


def get_config() -> ml_collections.ConfigDict:
    """The smallest shapes at which each part still does its real work."""
    config = configuration.default()
    config.name = "smoke"
    config.model.update(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=64, compute="f32")
    config.warmup.update(steps=40, batch_size=8)
    config.optimiser.lr_warmup = 5
    config.selfplay.update(
        steps=8, num_tasks=4, group_size=2, supervised_batch=4, ring=64, seed_tasks=12, history=1 << 10
    )
    config.tasks.update(guarded=8, dev_items=8, unlock_every=20, completion=32, answer=32)
    config.sandbox.workers = 1
    config.eval.update(
        items=8,
        locked_items=0,
        passk=2,
        passk_items=4,
        shuffled_items=4,
        precision_items=8,
        operation_items=12,
        batch_size=16,
    )
    config.run.update(chunk=4, save_every=20, samples_every=4)
    return config
