"""The main job at 25M parameters, for one data-centre GPU.

    python launch.py --config=experiments/azr_25m.py

Expected: not measured; on a CPU it builds, lowers and takes a step (see the tests), and is far too slow to train.
"""

import ml_collections

from bitzero import config as configuration


def get_config() -> ml_collections.ConfigDict:
    """About 25M parameters, contexts long enough for level 5 traces."""
    config = configuration.default()
    config.name = "azr_25m"
    config.model.update(
        num_layers=8, width=512, num_heads=8, num_kv_heads=4, head_dim=64, ffn_width=1_536, remat=True, max_tier=0,
    )  # fmt: skip
    config.optimiser.update(lr=2e-3, lr_warmup=500)
    config.warmup.update(steps=20_000, batch_size=512)
    config.selfplay.update(steps=2_000, num_tasks=64, group_size=8, supervised_batch=256, ring=16_384, history=1 << 20)
    config.tasks.update(context=512, prompt=192, completion=128, answer=256, record=384)
    config.run.update(save_every=1_000)
    return config
