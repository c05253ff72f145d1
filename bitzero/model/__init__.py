"""The ternary transformer: pure functions on pytrees; ``block.py`` and ``transformer.py`` alone have Flax modules."""
