"""Plain BitNet b1.58 in the place of the main job's model: none of this project's additions, the same everything else.

    python launch.py --config=experiments/bitnet_plain.py
    python launch.py --config=experiments/bitnet_plain.py --mode=export

Expected: the time of the main job less a few minutes; not yet measured at full length. The block is RMSNorm, attention
with rotary positions and a sub-norm, RMSNorm, gated ReLU² with a sub-norm (arXiv 2504.12285, section 2).
"""

import ml_collections

from experiments import azr_small


def get_config() -> ml_collections.ConfigDict:
    """``azr_small`` with every addition off, and the peak rate that was best without QK-norm."""
    config = azr_small.get_config()
    config.name = "bitnet_plain"
    config.model.update(smear=0, value_embeddings=False, input_skips=False, qk_norm=False, conv=0, zero_outputs=False)
    config.optimiser.lr = 3e-3
    return config
