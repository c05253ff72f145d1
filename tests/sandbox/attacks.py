"""Programs that try to get out, to cheat or to break the machinery, by intent, with the outcomes right for each.

An outcome is one letter: K ok, E exception, T timeout, M memory, F forbidden, N nondeterministic, O oversize. ``K`` is
right where the trick is harmless: the program merely returned a value of its own. Programs marked ``WALK`` first slip
through the static look (``operator.attrgetter`` reads any attribute) and then hold every module of the child's
interpreter, ``posix`` and ``ctypes`` included: what stops them is the kernel alone.
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


class Attack(NamedTuple):
    """One program; ``f`` is called with no argument."""

    intent: str
    code: str
    allowed: str  # letters of the outcomes that are right


def _body(intent: str, allowed: str, *bodies: str, prefix: str = "") -> list[Attack]:
    indented = ("\n    ".join(body.split("\n")) for body in bodies)
    return [Attack(intent, f"{prefix}def f():\n    {body}", allowed) for body in indented]


def _whole(intent: str, allowed: str, *codes: str) -> list[Attack]:
    return [Attack(intent, code, allowed) for code in codes]


INTROSPECTION = _body(
    "introspection", "F",
    "return ().__class__.__bases__[0].__subclasses__()",
    "return [].__class__",
    "return f.__globals__",
    "return f.__code__.co_consts",
    "return f.__builtins__",
    "return f.__closure__",
    "return (lambda: 0).__code__",
    "return print.__self__",
    "return len.__self__",
    "return ''.__class__.__mro__",
    "return type('').mro()",
    "g = (i for i in [1])\nreturn g.gi_frame.f_globals",
    "g = (i for i in [1])\nreturn g.gi_code",
    "try:\n    1 / 0\nexcept Exception as e:\n    return e.__traceback__.tb_frame.f_back.f_globals",
    "try:\n    1 / 0\nexcept Exception as e:\n    return e.__traceback__",
    "try:\n    1 / 0\nexcept Exception as e:\n    return e.with_traceback(None)",
    "match ():\n    case object(__class__=c):\n        return c",
    "return __builtins__",
    "return __name__",
    "return __loader__",
    "return __spec__",
    "return globals()",
    "return locals()",
    "return vars()",
    "return dir()",
    "return getattr((), '__class__')",
    "return getattr((), '__cl' + 'ass__')",
    "return hasattr(f, '__globals__')",
    "return list(map(getattr, [f], ['__code__']))",
    "setattr(f, '__code__', 1)",
    "f.__code__ = 1",
    "f.__globals__['x'] = 1",
    "class A:\n    def __getattribute__(self, n): return open\nreturn A().x('/etc/passwd')",
    "class A(type):\n    def __prepare__(n, b): return {}\nreturn A.__subclasscheck__",
    "return ().__reduce_ex__(2)",
    "return ().__getattribute__('__class__')",
    "return super(type, type).__getattribute__(type, '__subclasses__')",
    "import operator\nreturn operator.attrgetter('__class__')(())",
    "import functools\nreturn functools.partial(len).func",
    "import functools\nreturn functools.wraps(len)",
    "import re\nreturn re.compile('a')",
    "import string\nreturn string.Formatter().get_field('0.__class__', [()], {})[0]",
)  # fmt: skip
INTROSPECTION += _body(
    "introspection by format, only text comes out", "KN",
    "return '{0.__class__.__mro__}'.format(())",
    "return '{0.__doc__}'.format(1)[:9]",
    "return '{x.__class__.__base__.__name__}'.format(x=1)",
    "import string\nreturn string.Formatter().vformat('{0.__class__}', [()], {})",
    "return str(type(1)) + repr(f)[:10]",
    "return '%s' % (lambda: 0,)",
)  # fmt: skip
IMPORTS = _body(
    "import", "F",
    "import os\nreturn os.getpid()",
    "import os.path as p\nreturn p.exists('/')",
    "import sys\nreturn sys.modules",
    "import socket\nreturn 1",
    "import ctypes\nreturn 1",
    "import shutil\nreturn 1",
    "import subprocess\nreturn subprocess.run('id')",
    "import random\nreturn random.random()",
    "import time\nreturn time.time()",
    "import threading\nreturn 1",
    "import multiprocessing\nreturn 1",
    "import builtins\nreturn builtins.open",
    "import importlib\nreturn importlib.import_module('os')",
    "import posix\nreturn posix.getpid()",
    "import gc\nreturn gc.get_objects()",
    "import inspect\nreturn inspect.stack()",
    "import pickle\nreturn pickle.loads(b'cos\\nsystem\\n(S\"id\"\\ntR.')",
    "import uuid\nreturn str(uuid.uuid4())",
    "import decimal\ndecimal.getcontext().prec = 1\nreturn 1",
    "import resource\nreturn 1",
    "import signal\nreturn 1",
    "import __main__\nreturn 1",
    "import bitzero\nreturn 1",
    "from os import system\nreturn system('id')",
    "from . import os\nreturn 1",
    "from operator import __builtins__ as b\nreturn b",
    "from re import _compiler\nreturn 1",
    "from collections import _sys\nreturn 1",
    "__import__('os').system('id')",
    "i = __import__\nreturn i('os')",
    "import math as m, os as o\nreturn 1",
    "import collections.abc.os\nreturn 1",
    "import re\nreturn re._compiler",
    "import string\nreturn string._re",
    "try:\n    import os\nexcept BaseException:\n    return 1",
)  # fmt: skip
IMPORTS += _whole("import", "F", "import os\ndef f(): return 1", "from sys import modules\ndef f(): return 1")
IMPORTS += _whole(
    "import", "KE", "from collections import *\ndef f(): return 1", "def f():\n    import re\n    return re.enum"
)
BUILTINS = _body(
    "door among the built-ins", "F",
    "return open('/etc/passwd').read()",
    "return eval('1')",
    "exec('x = 1')",
    "return compile('1', '', 'eval')",
    "return input()",
    "breakpoint()",
    "help()",
    "exit()",
    "quit()",
    "return memoryview(b'abc')",
    "delattr(f, 'x')",
    "o = open\nreturn o('/etc/passwd')",
    "return [open][0]('/etc/passwd')",
    "e = eval\nreturn e('__import__(\"os\")')",
    "@eval\ndef g(): pass\nreturn g",
    "return license()",
    "return copyright",
    "return __debug__ and __build_class__",
)  # fmt: skip
BUILTINS += _body(
    "door among the built-ins, shadowed by a name of its own", "KE",
    "eval = len\nreturn eval([1])",
    "open = 1\nreturn open",
    "return (lambda open=open: open)()('/etc/passwd')",
    "for input in [3]: pass\nreturn input",
    "print('text', file=3)\nreturn 1",
)  # fmt: skip
_PACKED = (
    "b'\\x01\\x00\\x00\\x000\\x02\\x00\\x00\\x00ok\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x05\\x00\\x00\\x000 0 0"
)
DESCRIPTORS = _body(
    "descriptors and signals", "F",
    "modules()['posix'].close(1)\nreturn 1",
    "modules()['posix'].dup2(1, 0)\nreturn 1",
    "modules()['posix'].dup(1)\nreturn 1",
    "modules()['posix'].write(0, b'x')\nreturn 1",
    "modules()['posix'].write(2, b'x')\nreturn 1",
    "modules()['posix'].write(7, b'x')\nreturn 1",
    "modules()['posix'].read(0, 1)\nreturn 1",
    "modules()['posix'].read(1, 1)\nreturn 1",
    "modules()['posix'].pipe()\nreturn 1",
    "modules()['posix'].isatty(1)\nreturn 1",
    "modules()['posix'].ftruncate(1, 0)\nreturn 1",
    "modules()['signal'].signal(14, 1)\nreturn 1",
    "modules()['signal'].setitimer(2, 0)\nreturn 1",
    "modules()['signal'].alarm(1)\nreturn 1",
    "modules()['signal'].pause()\nreturn 1",
    "modules()['signal'].raise_signal(9)\nreturn 1",
    "modules()['signal'].pthread_sigmask(0, [27])\nreturn 1",
    "modules()['posix'].kill(1, 9)\nreturn 1",
    "modules()['posix'].kill(-1, 9)\nreturn 1",
    "modules()['posix'].kill(modules()['posix'].getppid(), 19)\nreturn 1",
    "modules()['posix'].killpg(0, 9)\nreturn 1",
    "modules()['resource'].setrlimit(0, (99, 99))\nreturn 1",
    "modules()['resource'].getrusage(0)\nreturn 1",
    "modules()['posix'].getpid()\nreturn 1",
    "modules()['posix'].nice(-5)\nreturn 1",
    "modules()['posix'].sched_yield()\nreturn 1",
    "modules()['posix'].setuid(0)\nreturn 1",
    "modules()['posix'].chroot('/')\nreturn 1",
    "modules()['posix'].uname()\nreturn 1",
    "libc().prctl(38, 0)\nreturn 1",
    "libc().ptrace(0, 0, 0, 0)\nreturn 1",
    "libc().syscall(57)\nreturn 1",
    "libc().syscall(0x40000000 + 39)\nreturn 1",
    "libc().syscall(425, 1, 0)\nreturn 1",
    "libc().syscall(321, 0, 0, 0)\nreturn 1",
    "libc().syscall(101, 16, 1)\nreturn 1",
    "bye(0)",
    "bye(1)",
    "libc().exit(0)",
    "libc().abort()",
    "modules()['time'].sleep(100)\nreturn 1",
    prefix=WALK,
)  # fmt: skip
DESCRIPTORS += _body(
    "a crash of the interpreter, or a door that opens nothing", "EF",
    "modules()['posix'].fstat(1)\nreturn 1",
    "modules()['posix'].forkpty()\nreturn 1",
    "libc().memset(0, 0, 100)\nreturn 1",
    "operator.methodcaller('string_at', 1)(modules()['ctypes'])\nreturn 1",
    prefix=WALK,
)  # fmt: skip
FORGED = _body(
    "forged result", "F",
    "modules()['posix'].write(1, b'junk')\nreturn 1",
    "modules()['posix'].write(1, b'junk')\nbye(0)",
    "modules()['posix'].write(1, b'\\xff' * 64)\nbye(0)",
    "for _ in range(3000): modules()['posix'].write(1, b'\\x00' * 65536)\nreturn 1",
    "modules()['posix'].write(1, b'\\x00\\x00\\x00\\x00')\nbye(0)",
    f"modules()['posix'].write(1, b'\\x21\\x00\\x00\\x00' + {_PACKED}\\x01\\x00\\x00\\x00(')\nbye(0)",
    f"modules()['posix'].write(1, b'\\x21\\x00\\x00\\x00' + {_PACKED}\\x01\\x00\\x00\\x001')\nreturn 1",
    f"modules()['posix'].write(1, b'\\x21\\x00\\x00\\x00' + {_PACKED}\\x01\\x00\\x00\\x001')\nlibc().getpid()",
    f"modules()['posix'].write(1, b'\\x24\\x00\\x00\\x00' + {_PACKED}\\x04\\x00\\x00\\x00f(1)')\nbye(0)",
    f"modules()['posix'].write(1, b'\\x24\\x00\\x00\\x00' + {_PACKED}\\x04\\x00\\x00\\x002, 1')\nbye(0)",
    prefix=WALK,
)  # fmt: skip
FORGED += _body(
    "a well-formed forged value is only a value", "K",
    f"modules()['posix'].write(1, b'\\x21\\x00\\x00\\x00' + {_PACKED}\\x01\\x00\\x00\\x007')\nbye(0)",
    prefix=WALK,
)  # fmt: skip
EQUALITY = _whole(
    "equal to everything", "F",
    "class A:\n    def __eq__(s, o): return True\ndef f(): return A()",
    "class A(int):\n    def __eq__(s, o): return True\ndef f(): return A(1)",
    "class A(str):\n    def __repr__(s): return '42'\ndef f(): return A('x')",
    "class A(list):\n    def __iter__(s): return iter([1])\ndef f(): return A()",
    "class A(dict):\n    def items(s): return [(1, 2)]\ndef f(): return A()",
    "class A(float): pass\ndef f(): return A(1)",
    "class A(tuple): pass\ndef f(): return A((1,))",
    "class A(set): pass\ndef f(): return A()",
    "class A(bytes): pass\ndef f(): return [A()]",
    "class A(int): pass\ndef f(): return {A(1): 1}",
    "class A(int): pass\ndef f(): return {1: [A(1)]}",
    "class A(int): pass\ndef f(): return {A(1)}",
    "import collections\ndef f(): return collections.Counter('aab')",
    "import collections\ndef f(): return collections.OrderedDict(a=1)",
    "import collections\ndef f(): return collections.namedtuple('P', 'x')(1)",
    "import collections\ndef f(): return collections.deque([1])",
    "import collections\ndef f(): return collections.defaultdict(int)",
    "def f(): return frozenset([1])",
    "def f(): return bytearray(b'a')",
    "def f(): return range(3)",
    "def f(): return 1j",
    "def f(): return ...",
    "def f(): return NotImplemented",
    "def f(): return f",
    "def f(): return iter([])",
    "def f(): return {}.keys()",
    "def f(): return object()",
    "def f(): return type",
    "def f(): return ValueError(1)",
    "def f(): yield 1",
    "def f(): return (x for x in [1])",
    "async def f(): return 1",
    "class M(type):\n    def __eq__(s, o): return True\n    def __hash__(s): return hash(int)\n"
    "class A(metaclass=M): pass\ndef f(): return A()",
    "class M(type):\n    def __instancecheck__(s, o): return True\nclass A(metaclass=M): pass\ndef f(): return [A()]",
)  # fmt: skip
EQUALITY += _whole(
    "exceptions in disguise", "E",
    "class M(type):\n    def __eq__(s, o): return True\n    def __hash__(s): return hash(ValueError)\n"
    "class A(Exception, metaclass=M): pass\ndef f(): raise A",
    "class A(BaseException):\n    def __str__(s):\n        while True: pass\ndef f(): raise A",
    "class ValueError(Exception): pass\ndef f(): raise ValueError",
    "def f(): raise MemoryError.__new__(StopIteration)",
    "def f(): raise StopIteration('error')",
    "def f(): raise Exception('Non-deterministic code')",
    "def f(): raise KeyboardInterrupt",
    "def f(): raise GeneratorExit",
    "def f(): raise ExceptionGroup('a', [ValueError()])",
    "def f(): raise f",
    "def f(): assert 0, 'text'",
)  # fmt: skip
POISON = _body(
    "poisoning of what comes next", "KEF",
    "modules()['builtins'].len = lambda x: 42\nreturn 1",
    "modules()['builtins'].sorted = None\nreturn 1",
    "modules()['math'].sqrt = lambda x: 42\nreturn 1",
    "modules()['builtins'].print = modules()['builtins'].exit\nreturn 1",
    "operator.attrgetter('__dict__')(modules()['builtins'])['sum'] = max\nreturn 1",
    "for name in list(modules()): modules()[name] = None\nreturn 1",
    "modules().clear()\nreturn 1",
    "modules()['bitzero.sandbox.values'].canonical = lambda *a: '42'\nreturn 1",
    "modules()['bitzero.sandbox.child'].PLAIN.clear()\nreturn 1",
    "modules()['bitzero.sandbox.wire'].pack = lambda x: b''\nreturn 1",
    "modules()['gc'].enable()\nreturn 1",
    "attr(modules()['sys'], 'setrecursionlimit')(10)\nreturn 1",
    "attr(modules()['sys'], 'settrace')(lambda *a: 1 / 0)\nreturn 1",
    "attr(modules()['sys'], 'set_int_max_str_digits')(0)\nreturn 1",
    "modules()['codecs'].register(lambda n: 1 / 0)\nreturn 1",
    "modules()['atexit'].register(f) if 'atexit' in modules() else 0\nreturn 1",
    prefix=WALK,
)  # fmt: skip
POISON += _whole(
    "poisoning of a module's own objects", "KEFN",
    "import math\nmath.sqrt = lambda x: 42\ndef f(): return math.sqrt(4)",
    "import string\nstring.digits = 'abc'\ndef f(): return string.digits",
    "import collections\ncollections.Counter.most_common = 1\ndef f(): return 1",
    "import operator\noperator.add = None\ndef f(): return 1",
    "import functools\nfunctools.reduce = None\ndef f(): return 1",
    "def f():\n    global len\n    len = lambda x: 42\n    return len([])",
    "int = str\ndef f(): return int(1)",
    "class A:\n    def __del__(s):\n        while True: pass\na = A()\ndef f(): return 1",
    "try:\n    int.bit_length = 1\nexcept TypeError: pass\ndef f(): return 1",
)  # fmt: skip
_DEEP = "def f(): return "
PARSER = _whole(
    "parser bomb", "EMFKTO",
    _DEEP + "(" * 5000,
    _DEEP + "(" * 90 + ")" * 90,
    _DEEP + "[" * 1000 + "]" * 1000,
    _DEEP + "-" * 8000 + "1",
    _DEEP + "not " * 3000 + "1",
    _DEEP + "+".join(["1"] * 5000),
    _DEEP + "**".join(["1"] * 3000),
    _DEEP + "a" + ".a" * 5000,
    _DEEP + "f" + "()" * 5000,
    _DEEP + "[0" + "][0" * 4000 + "]",
    _DEEP + "lambda: " * 1500 + "1",
    _DEEP + "1 if 1 else " * 1200 + "1",
    _DEEP + "f'" + "{1}" * 3000 + "'",
    "".join(" " * i + "if 1:\n" for i in range(150)) + " " * 150 + "pass\ndef f(): return 1",
    "".join("\t" * i + "for x in y:\n" for i in range(100)) + "\t" * 100 + "pass\ndef f(): return 1",
    _DEEP + "9" * 9000,
    _DEEP + "0x" + "f" * 16000,
    _DEEP + "'" + "a" * 9000 + "'",
    _DEEP + "'\\N{" + "A" * 9000 + "}'",
    _DEEP + "1" + "e9" * 2000,
    "x = [" + "1," * 8000 + "]\ndef f(): return len(x)",
    "\\\n" * 8000 + "def f(): return 1",
    "def f(" + ",".join(f"a{i}=1" for i in range(1500)) + "): return 1",
    "\ufeffdef f(): return 1",
    "# coding: rot13\ndef f(): return 1",
    "# coding: \x00\ndef f(): return 1",
    "def f(): return 1\x00",
    "\x0c\x0b def f(): pass",
    "def f(): return '\\ud800'",
    "def f():\n\treturn 1\n        return 2",
    "print(" * 3000,
    "def f():\n  " + "try:\n  " * 30 + "pass",
    "a:" * 7000,
    "@f\n" * 4000 + "def f(): return 1",
    "match 1:\n case " + "|".join(str(i) for i in range(2500)) + ": pass\ndef f(): return 1",
    "while 1: break\n" * 900 + "def f(): return 1",
)  # fmt: skip
LOOPS = _body(
    "endless loop in Python", "T",
    "while True: pass",
    "while 1:\n    try:\n        1 / 0\n    except: continue",
    "try:\n    while True: pass\nfinally:\n    return 1",
    "try:\n    while True: pass\nexcept BaseException:\n    return 1",
    "for i in iter(int, 1): pass",
    "return [i for i in iter(int, 1)]",
    "return {i: i for i in iter(int, 1)}",
    "return sum(1 for i in iter(int, 1))",
    "return sum(map(lambda x: 1, iter(int, 1)))",
    "return max(iter(lambda: 1, 2))",
    "g = lambda: 0\nwhile not g(): pass",
    "class A:\n    def __iter__(s): return s\n    def __next__(s): return 1\nreturn list(A())",
    "class A:\n    def __len__(s): return 1\n    def __getitem__(s, i): return 1\nreturn list(A())",
    "class A:\n    def __bool__(s):\n        while True: pass\nreturn not A()",
    "class A:\n    def __eq__(s, o):\n        while True: pass\nreturn A() in [A()]",
    "class A:\n    def __hash__(s):\n        while True: pass\nreturn {A(): 1}",
    "class A:\n    def __del__(s):\n        while True: pass\nA()\nreturn 1",
    "class A(Exception):\n    def __init__(s):\n        while True: pass\nraise A",
    "def g(n):\n    if n: g(n - 1); g(n - 1)\ng(40)",
    "n = 0\nwhile n < 10 ** 9: n += 1\nreturn n",
    "import functools\nreturn functools.reduce(lambda a, b: a, iter(int, 1))",
    "import itertools\nfor x in itertools.count(): pass",
    "import itertools\nfor x in itertools.permutations(range(20)): pass",
    "a = [1]\nfor x in a: a.append(x)",
    "return sorted(iter(lambda: 1, 0))",
    "def g():\n    while True: yield 1\nfor x in g(): pass",
)  # fmt: skip
LOOPS += _whole(
    "endless loop at top level", "T", "while True: pass\ndef f(): return 1", "[0 for i in iter(int, 1)]\ndef f(): return 1"
)  # fmt: skip
C_LOOPS = _body(
    "endless work inside C", "TM",
    "return sum(iter(int, 1))",
    "return 1 in iter(int, 1)",
    "return list(iter(int, 1))",
    "import re\nreturn re.match('(a+)+b', 'a' * 40)",
    "import re\nreturn re.match('(a|a)*c', 'a' * 50)",
    "import itertools\nreturn sum(itertools.count())",
    "import itertools\nreturn list(itertools.repeat(1))",
    "import collections\ncollections.deque(iter(int, 1), maxlen=0)",
    "return 3 ** 10 ** 8",
    "import math\nreturn math.factorial(10 ** 7)",
    "import math\nreturn math.comb(10 ** 7, 5 * 10 ** 6)",
    "return max(range(10 ** 12))",
    "return sum(range(10 ** 11))",
)  # fmt: skip
MEMORY = _body(
    "memory bomb", "MTO",
    "return 'a' * 10 ** 9",
    "return [0] * 10 ** 9",
    "return bytes(10 ** 9)",
    "return bytearray(10 ** 10)",
    "return list(range(10 ** 9))",
    "a = 'a'\nwhile True: a += a",
    "a = []\nwhile True: a.append('x' * 10 ** 6)",
    "a = [1]\nwhile True: a = a + a",
    "return 1 << 10 ** 10",
    "return ' ' * 10 ** 8 + ' ' * 10 ** 8",
    "return '%1000000000d' % 1",
    "return format(1, '1000000000')",
    "return 'a'.ljust(10 ** 9)",
    "return 'ab'.replace('a', 'a' * 10 ** 8).replace('a', 'a' * 10 ** 4)",
    "return tuple([()] * 10 ** 9)",
    "import itertools\nreturn list(itertools.product(range(100), repeat=5))",
    "def g(x=[0] * 10 ** 8): return x\nreturn g() * 10",
    "class A:\n    def __length_hint__(s): return 10 ** 12\n    def __iter__(s): return iter([0] * 10 ** 9)\n"
    "return list(A())",
)  # fmt: skip
MEMORY += _body(
    "memory bomb that is caught", "KMTO",
    "try:\n    return 'a' * 10 ** 9\nexcept MemoryError:\n    return 1",
    "try:\n    a = [0] * 10 ** 9\nexcept BaseException:\n    a = 2\nreturn a",
)  # fmt: skip
GIANT = _body(
    "giant or cyclic value", "O",
    "a = []\na.append(a)\nreturn a",
    "a = {}\na[1] = a\nreturn a",
    "a = [[]]\na[0].append(a)\nreturn (a,)",
    "a = [1]\nfor _ in range(60): a = [a, a]\nreturn a",
    "a = ()\nfor _ in range(100): a = (a,)\nreturn a",
    "a = {}\nfor i in range(60): a = {1: a, 2: a}\nreturn a",
    "return 'a' * 100000",
    "return b'a' * 100000",
    "return list(range(9000))",
    "return 10 ** 9000",
    "return -(1 << 50000)",
    "return ['\\x00'] * 3000",
    "return '\\U0010ffff' * 1000",
    "return {i: i for i in range(3000)}",
    "return [10 ** 4000] * 10",
    "return [[[]]] * 5000",
)  # fmt: skip
PROCESSES = _body(
    "processes and threads", "F",
    "modules()['posix'].fork()\nreturn 1",
    "modules()['posix'].execv('/bin/sh', ['sh'])\nreturn 1",
    "modules()['posix'].system('touch " + CANARY + "')\nreturn 1",
    "modules()['posix'].posix_spawn('/bin/sh', ['sh'], {})\nreturn 1",
    "modules()['posix'].waitpid(-1, 0)\nreturn 1",
    "modules()['posix'].setsid()\nreturn 1",
    "libc().fork()\nreturn 1",
    "libc().vfork()\nreturn 1",
    "libc().system(b'touch " + CANARY + "')\nreturn 1",
    "libc().daemon(1, 1)\nreturn 1",
    "libc().unshare(0x10000000)\nreturn 1",
    "while True: modules()['posix'].fork()",
    prefix=WALK,
)  # fmt: skip
PROCESSES += _body(
    "a thread", "FEM", "modules()['_thread'].start_new_thread(len, ([],))\nreturn 1", prefix=WALK
)  # fmt: skip
OUTSIDE = _body(
    "files", "EF",
    f"modules()['posix'].open('{CANARY}', 0o102)\nreturn 1",
    f"modules()['io'].open('{CANARY}', 'w').write('x')\nreturn 1",
    "return modules()['io'].open('/etc/passwd').read()",
    "return modules()['posix'].listdir('/')",
    "return modules()['posix'].stat('/').st_ino",
    f"modules()['posix'].mkdir('{CANARY}')\nreturn 1",
    f"modules()['posix'].mkfifo('{CANARY}')\nreturn 1",
    f"modules()['posix'].symlink('/etc', '{CANARY}')\nreturn 1",
    f"modules()['posix'].link('/etc/passwd', '{CANARY}')\nreturn 1",
    f"modules()['posix'].rename('/etc/hostname', '{CANARY}')\nreturn 1",
    "modules()['posix'].unlink('/etc/hostname')\nreturn 1",
    "modules()['posix'].chmod('/', 0)\nreturn 1",
    "return modules()['posix'].getcwd()",
    "return modules()['posix'].readlink('/proc/self/exe')",
    "modules()['posix'].memfd_create('x')\nreturn 1",
    "modules()['posix'].truncate('/etc/hostname', 0)\nreturn 1",
    "libc().mount(0, 0, 0, 0, 0)\nreturn 1",
    f"libc().creat(b'{CANARY}', 511)\nreturn 1",
    "libc().shmget(1, 4096, 512)\nreturn 1",
    "return modules()['io'].FileIO(0).read(1)",
    prefix=WALK,
)  # fmt: skip
OUTSIDE += _body(
    "network", "F",
    f"modules()['_socket'].socket(2, 1).connect(('127.0.0.1', {PORT}))\nreturn 1",
    f"modules()['_socket'].socket(2, 2).sendto(b'x', ('127.0.0.1', {PORT}))\nreturn 1",
    "modules()['_socket'].socket(1, 1)\nreturn 1",
    "modules()['_socket'].socket(10, 1)\nreturn 1",
    "modules()['_socket'].socket(16, 3, 0)\nreturn 1",
    "modules()['_socket'].socketpair()\nreturn 1",
    "libc().socket(2, 1, 0)\nreturn 1",
    prefix=WALK,
)  # fmt: skip
OUTSIDE += _body(
    "names on the network", "EF",
    "modules()['_socket'].getaddrinfo('localhost', 80)\nreturn 1",
    "return modules()['_socket'].gethostname()",
    prefix=WALK,
)  # fmt: skip
RANDOM = _body(
    "nondeterminism", "N",
    "return id([])",
    "return id(f)",
    "return hash('text')",
    "return hash(('a', 1.5, b'x'))",
    "return hash(b'bytes')",
    "return repr(object())",
    "return str(f)",
    "return str(lambda: 0)",
    "return '%r' % (iter([]),)",
    "return list({'a', 'b', 'c', 'd', 'e', 'f'})",
    "return ''.join(set('abcdefgh'))",
    "return next(iter({'x', 'y', 'z', 'w', 'v', 'u'}))",
    "return {'aa', 'bb', 'cc', 'dd', 'ee', 'ff'}.pop()",
    "return list(frozenset('qwertyui'))",
    "return str({'a', 'b', 'c', 'd', 'e'})",
    "return f'{set(\"abcdefg\")}'",
    "return list({'a': 1, 'b': 2, 'c': 3, 'd': 4, 'e': 5}.keys() | set('xyz'))",
    "return list(dict.fromkeys(set('abcdefg')))",
    "return hash(object())",
    "return id(object())",
    "import operator\nreturn operator.methodcaller('__hash__')('abc')",
    "return hash('a') % 1000003",
    "return [x for x in {'k%d' % i for i in range(20)}]",
)  # fmt: skip
RANDOM += _body(
    "clocks and generators", "KNEF",
    "return modules()['time'].perf_counter_ns()",
    "return modules()['posix'].urandom(8)",
    "return modules()['time'].time()",
    prefix=WALK,
)  # fmt: skip

ALL = [
    *INTROSPECTION, *IMPORTS, *BUILTINS, *DESCRIPTORS, *FORGED, *EQUALITY, *POISON, *PARSER, *LOOPS, *C_LOOPS, *MEMORY,
    *GIANT, *PROCESSES, *OUTSIDE, *RANDOM,
]  # fmt: skip
