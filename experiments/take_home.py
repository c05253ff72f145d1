"""The model to take home: azr_small half again as wide, four times its steps, four levels, 2.5 bits where they help.

    python launch.py --config=experiments/take_home.py      about two hours on 2 cores, in as many sittings as wanted

Expected: more than the model in `bitzero/assets`, which is of this file's job of before: 40,000 steps, seven deductions
in ten with a trace, abductions taught by any input, an earlier ramp, slower embeddings, products in f32; it has
90.5/76.5/50.5/63.5 % of the draws at L0 to L3 (its card).

Against azr_small half a bit a weight goes to rows that the Fisher signal picks, which closed 28 % of the distance to
unquantised weights in the precision sweep and costs no time.
"""

import ml_collections

from experiments import azr_small


def get_config() -> ml_collections.ConfigDict:
    """The job that the model to ship comes from."""
    config = azr_small.get_config()
    config.name = "take_home"
    config.model.max_tier = 4
    config.precision.budget = 2.5
    config.tasks.open_levels = 4
    config.warmup.steps = 60_000
    # Half again as wide: the main job's size has seen over a hundred tokens a weight by then.
    config.model.update(width=192, num_heads=6, ffn_width=384)
    return config
