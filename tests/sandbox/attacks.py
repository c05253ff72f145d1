"""All attacks of the suite, in a fixed order."""

from tests.sandbox import attacks_on_python as python
from tests.sandbox import attacks_on_the_machine as machine

ALL = [
    *python.INTROSPECTION,
    *python.IMPORTS,
    *python.BUILTINS,
    *machine.DESCRIPTORS,
    *machine.FORGED,
    *python.EQUALITY,
    *python.POISON,
    *machine.PARSER,
    *machine.LOOPS,
    *machine.C_LOOPS,
    *machine.MEMORY,
    *machine.GIANT,
    *machine.PROCESSES,
    *machine.OUTSIDE,
    *python.RANDOM,
]
