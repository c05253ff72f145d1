"""A layer's costliest passes on a CPU, in C++ through ``jax.ffi``: fused, skipping padding between examples."""
