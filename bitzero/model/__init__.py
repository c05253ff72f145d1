"""The ternary transformer: pure functions on pytrees; Flax modules live in ``transformer.py`` alone."""
