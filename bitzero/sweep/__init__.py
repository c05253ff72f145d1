"""Many runs compared: points of a sweep file, each a process of its own, and the report about them."""
