"""Structure of a program: its alpha-normalised source, the hash of that, and the split the hash decides."""

import hashlib
import re
import zlib

from bitzero.sandbox.parse import canonical

__all__ = ["canonical", "hash_text", "skeleton_of_text", "split_of", "split_text", "structural_hash"]

_LITERAL = re.compile(r"\bv\d+\b|'[^']*'|\d+")  # names are matched to be left alone


def structural_hash(code: str) -> int:
    """64 bits of the canonical source. Raises SyntaxError."""
    return hash_text(canonical(code))


def split_of(code: str) -> str:
    """ "test" (1/16), "dev" (1/16) or "train", by crc32 of the canonical source. Raises SyntaxError."""
    return split_text(canonical(code))


def hash_text(text: str) -> int:
    """64 bits of a source that is canonical already."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def skeleton_of_text(text: str) -> int:
    """32 bits, never 0, of a canonical source without its constants: each number counts as 0, each text as empty."""
    blank = lambda found: found[0] if found[0][0] == "v" else "''" if found[0][0] == "'" else "0"
    return zlib.crc32(_LITERAL.sub(blank, text).encode()) or 1


def split_text(text: str) -> str:
    """Split of a source that is canonical already."""
    return {0: "test", 1: "dev"}.get(zlib.crc32(text.encode()) % 16, "train")
