"""What was measured on a card, from the one table ``tuned.json``: which backend is the fastest, and which tiles.

    {"NVIDIA …": {"capability": "9.0", "commit": "…",
                  "backends": {"64": {"any": "triton", "4608x768": "bf16"}},       M → N×K, or any other matrix
                  "tiles": {"64x4608x768": {"rows": 64, …}}}}                      see ``tiles.shape_key``

A card that was not measured is answered for by one of its compute capability. ``tuning.py`` writes the table.
"""

import functools
import json
import math
import pathlib
from typing import Any

import jax

TABLE_FILE = pathlib.Path(__file__).with_name("tuned.json")
ANY = "any"  # stands for every matrix without an entry of its own
FAR = 4  # times another number of activations, or a part of it: beyond, nothing follows from what was measured

Card = dict[str, Any]


@functools.cache
def table() -> dict[str, Card]:
    """Name of a card, as JAX tells it → what was measured there."""
    return json.loads(TABLE_FILE.read_text())


def this_card() -> Card:
    """What is known of the default device; empty where it, and every card of its capability, is unmeasured."""
    device = jax.devices()[0]
    return card_of(device.device_kind, str(getattr(device, "compute_capability", "")))


def card_of(name: str, capability: str) -> Card:
    """The entry of a card, or of the first one with its compute capability ("7.5"); empty without either."""
    if name in table():
        return table()[name]
    return next((card for card in table().values() if capability and card["capability"] == capability), {})


def fastest_backend(card: Card, m: int, n: int, k: int) -> str | None:
    """The measured choice for M activations and an N × K matrix, by the nearest measured M; None where none is near."""
    choices: dict[str, dict[str, str]] = card.get("backends", {}) if m > 0 else {}
    near = [measured for measured in choices if int(measured) <= FAR * m and m <= FAR * int(measured)]
    if not near:
        return None
    nearest = min(near, key=lambda measured: (abs(math.log(int(measured) / m)), -int(measured)))
    return choices[nearest].get(f"{n}x{k}", choices[nearest].get(ANY))


def fastest_tile(card: Card, shape: str) -> dict[str, int] | None:
    """The fields of the tile measured for a shape (``tiles.shape_key``), or None."""
    return card.get("tiles", {}).get(shape)
