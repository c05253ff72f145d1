"""A layer's costliest passes on a CPU, in C++ through ``jax.ffi``: fused, and blind to padding between examples."""
