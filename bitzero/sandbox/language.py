"""The language of a program, stated in full: what is not named here does not exist for it.

* Syntax: ``NODES``, all of Python 3.11 but ``async`` and ``await``. A class takes no keywords (so no metaclass).
* Built-ins: ``BUILTINS``. ``hash`` stands only as ``return hash(...)`` in a ``__hash__``; ``print`` goes nowhere;
  ``type`` takes one argument; ``getattr``, ``hasattr``, ``setattr``, ``delattr`` take names of this language only.
* Modules: ``MEMBERS``, each a namespace of the members listed and nothing else.
* Attributes: ``ATTRIBUTES``, the public ones of these types and members, and whatever name the program binds itself,
  unless an object of the interpreter has an attribute of that name (``hidden``: frames, code, tracebacks, cells).
* Two underscores on both sides: ``METHODS`` as functions of a class body, or set there (``__str__ = __repr__``);
  those of ``SUPER`` called as ``super().__x__(...)``, and ``Name.__init__(...)``; ``__doc__`` and ``__name__`` read;
  ``x.__class__.__name__``, ``self.__class__`` and ``other.__class__`` read; ``__slots__`` and ``__match_args__`` set
  to literal strings in a class body. No other.
* ``str.format`` and ``format_map`` fill plain fields only: no ``{0.name}``, no ``{0[key]}``.
* ``from __future__ import annotations`` and an ``if __name__ == "__main__":`` at top level are dropped beforehand.

A name of the program's own may be any other word: ``import math as eval`` and ``def f(input)`` are its own affair.
"""

import abc
import ast
import types

NODES: frozenset[type[ast.AST]] = frozenset(
    getattr(ast, name)
    for name in (
        "Module FunctionDef ClassDef Return Delete Assign AugAssign AnnAssign For While If With Match Raise Try "
        "TryStar Assert Import ImportFrom Global Nonlocal Expr Pass Break Continue BoolOp NamedExpr BinOp UnaryOp "
        "Lambda IfExp Dict Set ListComp SetComp DictComp GeneratorExp Yield YieldFrom Compare Call FormattedValue "
        "JoinedStr Constant Attribute Subscript Starred Name List Tuple Slice Load Store Del And Or Add Sub Mult "
        "MatMult Div Mod Pow LShift RShift BitOr BitXor BitAnd FloorDiv Invert Not UAdd USub Eq NotEq Lt LtE Gt GtE "
        "Is IsNot In NotIn comprehension ExceptHandler arguments arg keyword alias withitem match_case MatchValue "
        "MatchSingleton MatchSequence MatchMapping MatchClass MatchStar MatchAs MatchOr"
    ).split()
)

EXCEPTIONS = frozenset(
    "ArithmeticError AssertionError AttributeError BaseException BaseExceptionGroup BlockingIOError BrokenPipeError "
    "BufferError BytesWarning ChildProcessError ConnectionAbortedError ConnectionError ConnectionRefusedError "
    "ConnectionResetError DeprecationWarning EOFError EnvironmentError Exception ExceptionGroup FileExistsError "
    "FileNotFoundError FloatingPointError FutureWarning GeneratorExit IOError ImportError ImportWarning "
    "IndentationError IndexError InterruptedError IsADirectoryError KeyError KeyboardInterrupt LookupError "
    "MemoryError ModuleNotFoundError NameError NotADirectoryError NotImplementedError OSError OverflowError "
    "PendingDeprecationWarning PermissionError ProcessLookupError RecursionError ReferenceError ResourceWarning "
    "RuntimeError RuntimeWarning StopAsyncIteration StopIteration SyntaxError SyntaxWarning SystemError SystemExit "
    "TabError TimeoutError TypeError UnboundLocalError UnicodeDecodeError UnicodeEncodeError UnicodeError "
    "UnicodeTranslateError UnicodeWarning UserWarning ValueError Warning ZeroDivisionError".split()
)
BUILTINS = EXCEPTIONS | frozenset(
    "Ellipsis NotImplemented abs all any ascii bin bool bytearray bytes callable chr classmethod complex delattr dict "
    "divmod enumerate filter float format frozenset getattr hasattr hex int isinstance issubclass iter len list map "
    "max min next object oct ord pow print property range repr reversed round set setattr slice sorted staticmethod "
    "str sum super tuple type zip".split()
)

MEMBERS: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
        "collections": "ChainMap Counter OrderedDict UserDict UserList abc defaultdict deque namedtuple",
        "collections.abc": "ByteString Callable Collection Container Generator Hashable ItemsView Iterable Iterator "
        "KeysView Mapping MappingView MutableMapping MutableSequence MutableSet Reversible Sequence Set Sized "
        "ValuesView",
        "copy": "copy deepcopy",
        "functools": "cache cached_property cmp_to_key lru_cache partial partialmethod reduce total_ordering "
        "update_wrapper wraps",
        "heapq": "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
        "itertools": "accumulate chain combinations combinations_with_replacement compress count cycle dropwhile "
        "filterfalse groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest",
        "math": "acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp "
        "exp2 expm1 fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm "
        "ldexp lgamma log log10 log1p log2 modf nan nextafter perm pi pow prod radians remainder sin sinh sqrt tan "
        "tanh tau trunc ulp",
        "operator": "abs add and_ attrgetter call concat contains countOf delitem eq floordiv ge getitem gt iadd iand "
        "iconcat ifloordiv ilshift imatmul imod imul index indexOf inv invert ior ipow irshift is_ is_not isub "
        "itemgetter itruediv ixor le length_hint lshift lt matmul methodcaller mod mul ne neg not_ or_ pos pow rshift "
        "setitem sub truediv truth xor",
        "re": "A ASCII DOTALL I IGNORECASE L LOCALE M MULTILINE Match NOFLAG Pattern RegexFlag S U UNICODE VERBOSE X "
        "compile error escape findall finditer fullmatch match search split sub subn",
        "string": "Template ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits "
        "printable punctuation whitespace",
        "typing": "AbstractSet Annotated Any AnyStr Callable ChainMap ClassVar Collection Container Counter "
        "DefaultDict Deque Dict Final FrozenSet Generator Generic Hashable ItemsView Iterable Iterator KeysView List "
        "Literal LiteralString Mapping MappingView MutableMapping MutableSequence MutableSet NamedTuple Never NewType "
        "NoReturn Optional OrderedDict ParamSpec Protocol Reversible Self Sequence Set Sized SupportsAbs "
        "SupportsFloat SupportsIndex SupportsInt SupportsRound TYPE_CHECKING Text Tuple Type TypeAlias TypeGuard "
        "TypeVar TypedDict Union ValuesView cast overload",
    }.items()
}
MODULES = tuple(MEMBERS)

_OF_TYPES = {
    "str": "capitalize casefold center count encode endswith expandtabs find format format_map index isalnum isalpha "
    "isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower "
    "lstrip maketrans partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split "
    "splitlines startswith strip swapcase title translate upper zfill",
    "bytes": "decode fromhex hex",
    "list": "append clear copy count extend index insert pop remove reverse sort",
    "dict": "fromkeys get items keys mapping popitem setdefault update values",
    "set": "add difference difference_update discard intersection intersection_update isdisjoint issubset issuperset "
    "symmetric_difference symmetric_difference_update union",
    "numbers": "as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag is_integer numerator real "
    "to_bytes",
    "range": "start step stop indices",
    "generator": "close send throw value",
    "property": "deleter getter setter",
    "exceptions": "args exceptions split",
    "deque": "appendleft extendleft maxlen popleft rotate default_factory",
    "Counter": "elements most_common subtract total move_to_end maps new_child parents data",
    "namedtuple": "_asdict _field_defaults _fields _make _replace",
    "functools": "args cache_clear cache_info currsize func hits keywords maxsize misses",
    "itertools": "from_iterable",
    "re": "end endpos expand flags fullmatch group groupdict groupindex groups lastgroup lastindex match name pattern "
    "pos regs search span string findall finditer sub subn",
    "Template": "delimiter safe_substitute substitute template",
}
ATTRIBUTES = frozenset(" ".join(_OF_TYPES.values()).split()).union(*MEMBERS.values())
LOOKED_AT = frozenset(("format", "format_map", "register"))  # attributes that are fetched by ``namespace`` at run time

METHODS = frozenset(
    f"__{name}__"
    for name in (
        "abs add and bool bytes call ceil complex contains copy delitem divmod enter eq exit float floor floordiv "
        "format ge get getattr getitem gt hash iadd iand ifloordiv ilshift imatmul imod imul index init int invert "
        "ior ipow irshift isub iter itruediv ixor le len length_hint lshift lt matmul missing mod mul ne neg new next "
        "or pos post_init pow radd rand rdivmod repr reversed rfloordiv rlshift rmatmul rmod rmul ror round rpow "
        "rrshift rshift rsub rtruediv rxor set set_name setitem str sub truediv trunc xor"
    ).split()
)
SUPER = METHODS - {"__get__", "__getattr__", "__hash__", "__set__", "__set_name__"}
READABLE = frozenset(("__doc__", "__name__"))
WORD_LISTS = frozenset(("__match_args__", "__slots__"))  # class attributes that are tuples of names

# Names that make or show an order of hashes, by themselves or, for views of dicts, with an operator.
ORDERED = frozenset("AbstractSet FrozenSet ItemsView KeysView MutableSet Set frozenset set".split())
VIEWS = frozenset("attrgetter getattr items keys methodcaller".split())


def _of_the_interpreter() -> frozenset[str]:
    made = [types.FunctionType, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, types.CodeType]
    made += [types.FrameType, types.TracebackType, types.MethodType, types.BuiltinFunctionType, types.CellType]
    made += [types.WrapperDescriptorType, types.MethodWrapperType, types.MethodDescriptorType, types.ModuleType]
    made += [types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType, type, object]
    made += [types.MappingProxyType, types.GenericAlias, types.UnionType, property, classmethod, staticmethod, super]
    made += [BaseException, abc.ABCMeta]
    return frozenset(name for kind in made for name in dir(kind)) | frozenset(dir(type))


HIDDEN = _of_the_interpreter() - ATTRIBUTES - LOOKED_AT


def dunder(name: str) -> bool:
    """Whether ``name`` has two underscores on both sides; ``__`` itself is a name like any other."""
    return name[:2] == "__" and name[-2:] == "__" and name.strip("_") != ""


def hidden(name: str) -> bool:
    """Whether no program may have an attribute of this name, be it its own."""
    return name in HIDDEN or dunder(name) or not name.isidentifier()
