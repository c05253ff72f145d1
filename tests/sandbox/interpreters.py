"""Which Python a test may start as somebody else."""

import sys
from pathlib import Path

import pytest


def python_for(user: int) -> str:
    """An interpreter that ``user`` may execute: one under root's home is out of reach for others."""
    for path in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3"):
        resolved = Path(path).resolve()
        reachable = all(parent.stat().st_mode & 0o001 for parent in resolved.parents if parent.exists())
        if resolved.exists() and (not user or reachable):
            return path
    pytest.skip("no interpreter that an ordinary user can execute")
