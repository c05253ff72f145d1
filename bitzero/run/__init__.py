"""Where side effects live: files, checkpoints, metrics, the clock and signals."""
