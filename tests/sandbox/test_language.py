"""What is not of the language does not exist at run time either, whichever way a program asks for it."""

import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from bitzero.sandbox import Job, Outcome, Sandbox, language

ROOT = Path(__file__).parents[2]


def outcomes(box: Sandbox, codes: list[str]) -> list[Outcome]:
    return [outcome for [outcome] in box.validate([Job(id=0, code=code, inputs=("",)) for code in codes])]


def body(*lines: str) -> str:
    return "def f():\n" + "".join(f"    {line}\n" for text in lines for line in text.split("\n"))


REACHING = {  # programs that held the interpreter's own objects, and their kind
    "class pattern": "class P:\n    __match_args__ = ('__globals__',)\n"
    "def f():\n    match f:\n        case P(g):\n            return str(g)[:9]",
    "pattern by a base": "from collections import namedtuple\nclass P(namedtuple('P', 'gi_frame')): pass\n"
    "def f(): return P(1).gi_frame",
    "pattern by a base, computed": "from collections import namedtuple\nP = namedtuple('P', ['gi_' + 'frame'])\n"
    "def f(): return 1",
    "pattern on a virtual subclass": "from collections.abc import Iterable\nclass P(Iterable):\n    register = 1\n"
    "    __match_args__ = ('x',)\ndef f():\n    Iterable.register(P)\n    return 1",
    "register by name": body("from collections.abc import Sized", "return getattr(Sized, 'register')(int) is int"),
    "frame of a generator": body("g = (i for i in [1])", "return g.gi_frame"),
    "frame, as an own name": "class A: gi_frame = 1\ndef f(): return (i for i in [1]).gi_frame.f_locals",
    "frame, own name by setattr": body("setattr(f, 'gi_frame', 1)", "return 1"),
    "dictionary": body("return f.__dict__"),
    "traceback": "class A:\n    def __enter__(self): pass\n    def __exit__(self, t, v, tb):\n"
    "        self.x = tb.tb_frame\n        return True\ndef f():\n    with A() as a: 1 / 0\n    return 1",
    "augmented built-ins": "class R:\n    def __radd__(self, other): return other\ndef f():\n    global __builtins__\n"
    "    __builtins__ += R()\n    return 1",
    "augmented format": "class R:\n    def __radd__(self, other): return other('{0.__class__}')\ndef f():\n"
    "    s = ''\n    s.format += R()\n    return 1",
    "update_wrapper": "import functools as t\nclass W: pass\n"
    "def f():\n    t.update_wrapper(W, f, (), ('__globals__',))\n    return 1",
    "wraps with lists": body("import functools", "return functools.wraps(f, ('__code__',))(f)"),
    "partial of wraps": body("import functools as t", "return t.partial(t.update_wrapper, f)(f, ['__globals__'])"),
    "Formatter": body("import string", "return string.Formatter().get_field('0.__class__', [()], {})"),
    "attrgetter": body("import operator", "return operator.attrgetter('__globals__')(f)"),
    "attrgetter, path": body("from operator import attrgetter as a", "return a('__class__.__mro__')(1)"),
    "attrgetter, computed": body("import operator", "return operator.attrgetter('__cl' + 'ass__')(1)"),
    "methodcaller": body("import operator", "return operator.methodcaller('__reduce_ex__', 2)(1)"),
    "methodcaller of format": body("import operator", "return operator.methodcaller('format', f)('{0.__name__}')"),
    "attrgetter of format": body("import operator", "return operator.attrgetter('format')('{0.__name__}')(f)"),
    "getattr": body("return getattr(f, '__globals__')"),
    "getattr, default": body("return getattr(f, '__globals__', 1)"),
    "getattr, mapped": body("return list(map(getattr, [f], ['__code__']))"),
    "getattr of a frame": body("return getattr((i for i in [1]), 'gi_' + 'frame')"),
    "getattr of what is not listed": body(
        "import functools", "return getattr(functools.cached_property(f), 'attrname')"
    ),
    "hasattr": body("return hasattr(f, '__globals__')"),
    "setattr": body("setattr(f, '__code__', 1)", "return 1"),
    "setattr of a word with a space": body("setattr(f, 'tick ', 1)", "return 1"),
    "delattr": body("delattr(f, '__doc__')", "return 1"),
    "format": body("return '{0.__class__}'.format(1)"),
    "format, key": body("return '{0[a]}'.format({'a': 1})"),
    "format, one attribute": body("return '{0.real}'.format(1)"),
    "format, nested": body("return '{:{0.real}}'.format(1, 2)"),
    "format, in a specification": body("return '{0:{1[0]}}'.format(1, [2])"),
    "format, bound": body("g = '{0.real}'.format", "return g(1)"),
    "format, mapped": body("return list(map(str.format, ['{0.real}'], [1]))"),
    "format, of the class": body("return str.format('{0.real}', 1)"),
    "format, by type": body("return type('').format('{0.real}', 1)"),
    "format, by getattr": body("return getattr('{0.real}', 'for' + 'mat')(1)"),
    "format, by getattr on str": body("return getattr(str, 'format')('{0.real}', 1)"),
    "format, partial": body("import functools", "return functools.partial(str.format, '{0.real}')(1)"),
    "format, by super": "class S(str):\n    def g(self, x): return super().format(x)\n"
    "def f(): return S('{0.real}').g(1)",
    "format, of a subclass": "class S(str): pass\ndef f(): return S('{0.real}').format(1)",
    "format, as an attribute": "class S(str): g = str.format\ndef f(): return S('{0.real}').g(1)",
    "format, hidden dot": "class S(str):\n    def __contains__(self, x): return False\n"
    "def f(): return S('{0.real}').format(1)",
    "format_map": body("return '{a.real}'.format_map({'a': 1})"),
    "format_map, of the class": body("return str.format_map('{a[0]}', {'a': [1]})"),
    "format, pattern": body("match '{0.real}':\n    case str(format=g):\n        return g(1)"),
    "modules of modules": body("import collections.abc", "return collections.abc.sys.modules"),
    "modules by getattr": body("import collections", "return getattr(collections, '_sys')"),
    "modules, not private": body("import re", "return getattr(re, 'functools')"),
    "prepare": "class M(type):\n    @classmethod\n    def __prepare__(c, n, b): return {'tick ': len}\n"
    "def f(): return 1",
    "metaclass": "class M(type): pass\ndef f(): return 1",
    "metaclass by another name": "T = type\nclass M(T): pass\ndef f(): return 1",
    "metaclass by type of type": "class M(type(int)): pass\ndef f(): return 1",
    "metaclass of an ABC": "from collections.abc import Sized\nclass M(type(Sized)): pass\ndef f(): return 1",
    "metaclass called": body("from collections.abc import Sized", "return type(Sized)('A', (), {})"),
    "type of three": body("return type('A', (), {'__match_args__': ('__globals__',)})"),
    "type by alias": body("return type[int]('A', (), {})"),
    "type by keyword": body("return type(*['A', (), {}])"),
    "class keyword": "def g(*a, **k): return 1\nclass A(metaclass=g): pass\ndef f(): return A",
    "super of type": body("return super(type, type).__getattribute__(type, '__subclasses__')"),
    "vars": body("return vars(f)"),
    "dir": body("return dir(f)"),
    "locals": body("return locals()"),
    "set on a module function": body("import re", "re.sub.n = 1", "return 1"),
    "set on a library class": body("import collections", "collections.Counter.n = 1", "return 1"),
    "set on a method of one": body("import collections", "collections.Counter.most_common.n = 1", "return 1"),
    "set by an alias of typing": body("import typing", "typing.Counter.n = 1", "return 1"),
    "set on a flag": body("import re", "re.I.n = 1", "return 1"),
    "set by setattr": body("import collections", "setattr(collections.Counter, 'n', 1)", "return 1"),
    "set by a loop": body("import collections", "for collections.Counter.n in [1]: pass", "return 1"),
    "set by a manager": "class A:\n    def __enter__(self): return 1\n    def __exit__(self, *a): pass\nimport re\n"
    "def f():\n    with A() as re.sub.n: return 1",
    "ordering of a library class": body("import functools", "return functools.total_ordering(functools.partial)"),
    "memo of deepcopy": body("import copy", "m = {}", "copy.deepcopy([f], m)", "return list(m)"),
    "hash in a decorated method": "def g(h): return h('a')\nclass A:\n    @g\n    def __hash__(self): return hash(1)\n"
    "def f(): return A.x",
}


@pytest.mark.parametrize("kind", REACHING)
def test_nothing_of_the_interpreter_is_reached(box: Sandbox, kind: str) -> None:
    [outcome] = outcomes(box, [REACHING[kind]])
    assert outcome.kind == "forbidden" and outcome.detail not in ("unsupported_type", "no result", "syscall"), outcome


OWN_AFFAIR = {
    "import math as eval\ndef f(): return eval.sqrt(4)": "2.0",
    "def f():\n    match 3:\n        case eval:\n            return eval": "3",
    "def g(eval): return eval + 1\ndef f(): return g(1)": "2",
    "id = 3\ndef f(): return id": "3",
    "def hash(x): return x * 2\ndef f(): return hash(2)": "4",
    "class A:\n    def __hash__(self): return hash(1)\ndef hash(x): return 7\ndef f(): return len({A(): 1})": "1",
    "class A:\n    def format(self, x): return x + 1\n    def register(self, x): return x\n"
    "def f(): return A().format(1), A().register(2)": "(2, 2)",
    "def f(): return '{} {1} {a!r:>4}'.replace('1', '').format(1, 2, a='x')": "\"1 2  'x'\"",
    "def f(): return list(map('{:02d}.'.format, [1, 2])), '{a}'.format_map({'a': 'x.y'})": "(['01.', '02.'], 'x.y')",
    "def f(): return ['{0:{1}.{2}f}'.format(3.14159, 8, 2), '{{0.x}}'.format()]": "['    3.14', '{0.x}']",
    "class S(str):\n    def up(self, *a): return super().format(*a).upper()\ndef f(): return S('a{}').up('b')": "'AB'",
    "class A:\n    def __repr__(self): return 'A'\n    __str__ = __repr__\n    __hash__ = None\n"
    "def f(): return str(A())": "'A'",
    "class A:\n    def __eq__(self, other): return other.__class__ is self.__class__\n    __hash__ = None\n"
    "def f(): return A() == A(), A() == 1": "(True, False)",
    "def f(): return [__ for __ in range(2)]": "[0, 1]",
    "def f(): return f'{1.5:.{2}f}', '%s|%r' % ('a', 'b')": "('1.50', \"a|'b'\")",
    "def f(): return [hasattr([], '__len__'), hasattr(3, '__iter__'), hasattr([], 'append'), hasattr([], 'x')]": (
        "[True, False, True, False]"
    ),
    "def f(): return type(3) is int, isinstance(int, type), type(int) is type, issubclass(type(3), object)": (
        "(True, True, True, True)"
    ),
    "def f():\n    'Text.'\n    return f.__doc__, f.__name__, type(f).__name__": "('Text.', 'f', 'function')",
    "class A:\n    'Of A.'\n    def g(s):\n        'Of g.'\ndef f(): return A.__doc__, A.g.__doc__, A().g.__name__": (
        "('Of A.', 'Of g.', 'g')"
    ),
    "from operator import attrgetter, methodcaller\nclass A:\n    b = 1\n    def c(self, x): return x\n"
    "def f(): return attrgetter('b')(A), attrgetter('real', 'imag')(3), methodcaller('c', 2)(A())": "(1, (3, 0), 2)",
    "def f(): return str({1: 'a'}), repr([None, 1.5]), str(ValueError('x')), f'{int}', str(len)": (
        "(\"{1: 'a'}\", '[None, 1.5]', 'x', \"<class 'int'>\", '<built-in function len>')"
    ),
}


@pytest.mark.parametrize("code", OWN_AFFAIR)
def test_a_programs_own_affair(box: Sandbox, code: str) -> None:
    [outcome] = outcomes(box, [code])
    assert outcome.value == OWN_AFFAIR[code], outcome


ADDRESSES = [  # programs whose values were addresses, or hashes of them
    "class A: pass\ndef f():\n    a = A()\n    return a.__hash__() % 3",
    body("return str(f)[-7]"),
    body("return str(lambda: 0)[-4:]"),
    body("return hash('k') % 20 == 0"),
    body("return id(f) % 3"),
    body("return repr(iter([]))[-3]"),
    body("return f'{f}'[-3]"),
    body("return f'{f!r:>60}'[-3]"),
    body("return '%s' % f"),
    body("return '%a' % [f]"),
    body("return b'%a' % f"),
    body("return '{}'.format(f)[-2]"),
    body("return format(f)[-2]"),
    body("return ascii(f)[-2]"),
    body("return str([f])"),
    body("return str({1: f})"),
    body("return str(ValueError(f))"),
    body("return repr(ValueError(f))"),
    body("return list(map(str, [f]))"),
    body("return sorted([f, g], key=str)[0] is f", "").replace("def f", "def g(): pass\ndef f"),
    body("import functools", "return functools.partial(str, f)()"),
    body("import functools", "return str(functools.partial(f))"),
    body("import collections", "return str(collections.deque([f]))"),
    body("import string", "return string.Template('$a').substitute(a=f)"),
    body("return str([].append)[-5]"),
    body("return str((i for i in [1]))[-3]"),
    body("return str(f.x)").replace("def f", "class A:\n    def x(self): pass\ndef f").replace("f.x", "A().x"),
    body("return str(A())[-3]").replace("def f", "class A: pass\ndef f"),
    body("return A().g()[-3]").replace("def f", "class A:\n    def g(self): return super().__repr__()\ndef f"),
    body("return A().g()[-3]").replace("def f", "class A:\n    def g(self): return super().__str__()\ndef f"),
    body("return str(property())[-3]"),
    body("try:\n    {}[f]\nexcept KeyError as e:\n    return str(e)"),
    body("import copy", "m = {}", "copy.deepcopy([1], m)", "return sorted(m)[0] % 16"),
]
ORDERS = [  # programs whose values follow the order of hashes
    body("a = {'a': 1, 'b': 2, 'c': 3, 'd': 4}.keys()", "a |= {'e': 1, 'f': 2}.keys()", "return list(a)"),
    body("import operator", "return list(operator.or_({'a': 1, 'b': 2, 'c': 3}.keys(), 'defg'))"),
    body("from operator import sub", "return list(sub(dict.fromkeys('abcdefgh').keys(), 'ab'))"),
    body("from functools import reduce", "return list(reduce(lambda a, b: a ^ b, [{c: 1}.keys() for c in 'abcdefg']))"),
    body("return list(getattr(dict.fromkeys('abcdefgh'), 'keys')() & 'abcdefgh')"),
    body("return [t.__name__ for t in {int, str, float, list, dict, tuple, bool}]"),
    body("return [t.__name__ for t in set(map(type, [1, 'a', 1.5, [], {}, ()]))]"),
    body("return [g(0) for g in {lambda x: 1, lambda x: 2, lambda x: 3, lambda x: 4, lambda x: 5}]"),
    body("return next(iter({int, str, float, list, dict, tuple, bool})).__name__"),
    body("return [a.n for a in {A(i) for i in range(9)}]").replace(
        "def f", "class A:\n    def __init__(self, n): self.n = n\ndef f"
    ),
    body("return [g.__name__ for g in frozenset([len, max, min, sum, abs, any, all])]"),
    body("return [m() for m in {[1].copy, [2].copy, [3].copy, [4].copy, [5].copy, [6].copy}]"),
    body("return list({'a', 'b', 'c', 'd', 'e'})"),
    body("from collections.abc import KeysView as K", "return list(K(dict.fromkeys('abcdefg')) | K({'x': 1}))"),
    body("match dict.fromkeys('abcdefgh'):\n    case dict(keys=k):\n        return list(k() & 'abcdefgh')"),
    body("import typing as t", "return list({*'abcdefgh'} - {'a'})"),
]
ORDERS += [
    body("import typing as t", "return [str(x) for x in {t.Any, t.Union, t.Optional, t.List, t.Final, t.Literal}]"),
    body("import typing as t", "return [x.__name__ for x in {t.TypeVar(c) for c in 'abcdefgh'}]"),
    body("from functools import partial as p", "return [g() for g in {p(int, c) for c in '123456'}]"),
    body("import functools", "return [g(0) for g in {functools.cache(lambda x, i=i: i) for i in range(6)}]"),
    body("import operator as o", "return [g('abcdef') for g in {o.itemgetter(i) for i in range(6)}]"),
    body("import operator as o", "return [g(3) for g in {o.attrgetter(c) for c in ('real', 'imag', 'numerator')}]"),
    body("import re", "return [m.group() for m in {re.match(c, 'abcdef'[i:]) for i, c in enumerate('abcdef')}]"),
    body(
        "import collections.abc as c",
        "return [x.__name__ for x in {c.Set, c.Sized, c.Mapping, c.Iterable}]",
    ),
    body("import string", "return [t.template for t in {string.Template(c) for c in 'abcdef'}]"),
    body("return [str(e) for e in {ValueError(i) for i in range(6)}]"),
    body("return [next(i) for i in {iter([1]), iter((2,)), iter('3'), iter({4: 1}), map(int, '5')}]"),
    body("return [x is int for x in {..., None, NotImplemented, int, f}]"),
    body("return [t is type for t in {type, int, str, float, list, dict}]"),
]
STEADY = {  # and such as only look as if they did
    body("return type(1) in {int, str}, None in {None, 1}, f in {f}"): "(True, True, True)",
    body("return sorted({'a', 'b', 'c'}), len(set(map(type, [1, 'a'])))"): "(['a', 'b', 'c'], 2)",
    body("return max({3, 1, 2}), {1, 2} | {3}, sum({1, 2})"): "(3, {1, 2, 3}, 3)",
    body("return {int: 'i', None: 'n'}[None], [].append in {[].append: 1}"): "('n', False)",
    body("import copy", "return copy.deepcopy([{1, None}, (1, {'a': {2}})])"): "[{1, None}, (1, {'a': {2}})]",
}


def test_addresses_are_no_part_of_a_value(box: Sandbox) -> None:
    found = outcomes(box, ADDRESSES)
    assert {outcome.kind for outcome in found} == {"forbidden"}, list(zip(ADDRESSES, found, strict=True))


def test_orders_of_hashes_are_told(box: Sandbox) -> None:
    found = outcomes(box, ORDERS)
    assert {outcome.kind for outcome in found} == {"nondeterministic"}, list(zip(ORDERS, found, strict=True))


def test_what_does_not_follow_an_order_stays(box: Sandbox) -> None:
    assert [outcome.value for outcome in outcomes(box, list(STEADY))] == list(STEADY.values())


def test_the_same_without_address_randomisation() -> None:
    setarch = shutil.which("setarch")
    probe = subprocess.run([setarch or "false", "-R", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"setarch -R does not work here: {probe.stderr.strip() or 'not installed'}")
    code = (
        "from tests.sandbox.test_language import ADDRESSES, ORDERS, STEADY, outcomes\n"
        "from bitzero.sandbox import Sandbox\n"
        "with Sandbox(cache=0) as box:\n"
        "    for codes in (ADDRESSES, ORDERS, list(STEADY)):\n"
        "        print(*sorted({outcome.kind for outcome in outcomes(box, codes)}))\n"
    )
    command = [str(setarch), "-R", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.split("\n")[:3] == ["forbidden", "nondeterministic", "ok"], done


def test_the_lists_are_of_this_python() -> None:
    """Every listed member exists, and no listed attribute opens a frame, a code object or a traceback."""
    assert {name for names in language.MEMBERS.values() for name in names} <= language.ATTRIBUTES
    for kind in (types.FrameType, types.TracebackType, types.GeneratorType, types.FunctionType, types.CodeType):
        open_names = {name for name in dir(kind) if not language.hidden(name)}
        assert open_names <= {"clear", "close", "replace", "send", "throw"}, kind
    assert not language.BUILTINS & {"eval", "exec", "open", "hash", "id", "vars", "dir", "globals", "memoryview"}
    assert all(language.dunder(name) for name in language.METHODS | language.READABLE | language.WORD_LISTS)


def test_what_the_zygote_must_not_do_in_this_process() -> None:
    """Texts and hashes are replaced in zygotes alone."""
    assert " at 0x" in repr(object())
