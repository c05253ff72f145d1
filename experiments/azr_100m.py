"""The seed size, 100–200M parameters, for one large data-centre GPU.

    python launch.py --config=experiments/azr_100m.py

Expected: not measured; on a CPU it builds, lowers and takes a step (see the tests), and is far too slow to train.
"""

import ml_collections

from bitzero import config as configuration


def get_config() -> ml_collections.ConfigDict:
    """About 100M parameters; ``--config.model.num_layers=30`` makes it about 200M."""
    config = configuration.default()
    config.name = "azr_100m"
    config.model.update(
        num_layers=15, width=768, num_heads=12, num_kv_heads=4, head_dim=64, ffn_width=2_304, remat=True, max_tier=0
    )
    config.optimiser.update(lr=1.5e-3, lr_warmup=1_000)
    config.warmup.update(steps=40_000, batch_size=512)
    config.selfplay.update(steps=4_000, num_tasks=64, group_size=16, supervised_batch=512, ring=16_384, history=1 << 20)
    config.tasks.update(context=512, prompt=192, completion=128, answer=256, record=384)
    config.run.update(save_every=1_000)
    return config
