"""Programs that try to get out, to cheat or to break the machinery, by intent, with the outcomes right for each.

An outcome is one letter: K ok, E exception, T timeout, M memory, F forbidden, N nondeterministic, O oversize. ``K`` is
right where the trick is harmless: the program merely returned a value of its own. Programs marked ``WALK`` read any
attribute by ``operator.attrgetter`` and then hold every module of the child's interpreter, ``posix`` and ``ctypes``
included. The language refuses them; in a sandbox whose language is ``open_to_all`` the kernel alone stops them.
"""

from typing import NamedTuple

LETTERS = {
    "K": "ok", "E": "exception", "T": "timeout", "M": "memory", "F": "forbidden", "N": "nondeterministic",
    "O": "oversize",
}  # fmt: skip
CANARY = "/tmp/bitzero-sandbox-canary"
PORT = 47613  # the test listens here; nobody may call

WALK = (
    "import operator, collections\n"
    "def modules():\n"
    "    return operator.attrgetter('__globals__')(collections.namedtuple)['_sys'].modules\n"
    "def attr(x, name): return operator.attrgetter(name)(x)\n"
    "def bye(status): attr(modules()['posix'], '_exit')(status)\n"
    "def libc(): return operator.methodcaller('CDLL', None)(modules()['ctypes'])\n"
)


# Run in a zygote before it serves: no look at programs, and two modules as they are.
OPEN = (
    "import collections, operator\n"
    "from bitzero.sandbox import namespace, screen\n"
    "screen._names = screen._attributes = lambda found: None\n"
    "namespace.CONTENTS.update(collections=vars(collections), operator=vars(operator))\n"
)


def open_to_all(boot: str) -> str:
    """What ``process`` starts a zygote with, changed so that the static layers let everything through."""
    assert "zygote.main(" in boot
    return boot.replace("zygote.main(", OPEN + "zygote.main(")


class Attack(NamedTuple):
    """One program; ``f`` is called with no argument."""

    intent: str
    code: str
    allowed: str  # letters of the outcomes that are right


def body(intent: str, allowed: str, *bodies: str, prefix: str = "") -> list[Attack]:
    indented = ("\n    ".join(body.split("\n")) for body in bodies)
    return [Attack(intent, f"{prefix}def f():\n    {body}", allowed) for body in indented]


def whole(intent: str, allowed: str, *codes: str) -> list[Attack]:
    return [Attack(intent, code, allowed) for code in codes]
