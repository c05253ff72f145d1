"""The learning loops: pure JAX with one door to the host (``verify.py``)."""
