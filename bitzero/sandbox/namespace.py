"""What a program finds at run time: the built-ins and modules of ``language``, some of them replaced.

Whatever takes the name of an attribute as text (``getattr``, ``attrgetter``, ``str.format``, ``update_wrapper`` …) is
replaced by a function that knows names of the language only. Replacements are bound methods, and what a program did not
make takes no attributes, so nothing can be left behind on them.
"""

import abc
import builtins
import collections
import copy
import functools
import string
import sys
import types
from typing import Any, NoReturn, Protocol

from bitzero.sandbox import fuel, language, rewriting

NAME = "program"  # the module of a program's own functions and classes
INTERNAL = ("_pylong",)  # what the interpreter itself imports in a program's name (division of huge ints, 3.12 on)
OPEN_TO_STORES = ("builtins", "collections", "functools", NAME)  # modules of classes whose instances take attributes
_named_tuple: Any = collections.namedtuple
_PARSE = string.Formatter().parse


class Ends(Protocol):
    """Who counts and ends a program (``child.Results``)."""

    def stop(self, kind: str, detail: str) -> NoReturn: ...

    @property
    def tick(self) -> Any: ...


class Doors:
    """The replacements, and what they know of the program at hand."""

    def __init__(self) -> None:
        self.ends: Ends | None = None
        self.words: set[str] = set()  # attributes of the program's own
        self.modules: dict[str, types.ModuleType] = {}

    def refuse(self, word: str) -> NoReturn:
        assert self.ends is not None
        self.ends.stop("forbidden", word[:60])

    # Attributes by name

    def named(self, item: Any, name: Any) -> bool:
        """Whether ``item`` may be asked for ``name``; ends the program where it has an attribute of no program."""
        if type(name) is not str:
            raise TypeError("attribute name must be string")
        if name in language.ATTRIBUTES or name in language.READABLE:
            return True
        if language.hidden(name):
            self.refuse("attribute")
        if name in self.words or type(item).__module__ == NAME:
            return True
        if type(item) is types.ModuleType or hasattr(item, name):
            self.refuse("attribute")
        return False

    def getattr(self, item: Any, name: Any, *default: Any) -> Any:
        if not self.named(item, name):
            if default:
                return default[0]
            raise AttributeError(name)
        return self.looked_at(item, name, *default) if name in language.LOOKED_AT else getattr(item, name, *default)

    def hasattr(self, item: Any, name: Any) -> bool:
        if type(name) is str and name in language.METHODS:
            return hasattr(item, name)
        return self.named(item, name) and hasattr(item, name)

    def setattr(self, item: Any, name: Any, value: Any) -> None:
        if type(name) is not str:
            raise TypeError("attribute name must be string")
        if language.hidden(name):
            self.refuse("attribute")
        self.words.add(name)
        setattr(self.own(item), name, value)

    def delattr(self, item: Any, name: Any) -> None:
        self.named(item, name)
        if type(name) is str and language.hidden(name):
            self.refuse("attribute")
        delattr(self.own(item), name)

    def own(self, item: Any) -> Any:
        """``item``, if a program may set its attributes: what outlives a program is not changed."""
        kind = type(item)
        lasting = kind is types.FunctionType or isinstance(item, type)
        if (item.__module__ == NAME) if lasting else (kind.__module__ in OPEN_TO_STORES or kind is types.ModuleType):
            return item
        self.refuse("attribute set")

    def looked_at(self, item: Any, name: str, *default: Any) -> Any:
        """``item.name`` for ``format``, ``format_map`` and ``register``."""
        found = getattr(item, name, *default)
        if name == "register":
            if getattr(found, "__func__", None) is abc.ABCMeta.register:
                self.refuse("attribute register")
            return found
        if found is str.format:
            return fill
        if found is str.format_map:
            return fill_map
        if type(found) is types.BuiltinMethodType and isinstance(found.__self__, str) and found.__name__ == name:
            return getattr(_Text(found.__self__), name)
        return found

    def look(self, item: Any) -> "_Look":
        return _Look(item)

    # Types

    def kind(self, item: Any) -> Any:
        """``type(item)``; the type of a class is always ``type``."""
        found = type(item)
        return Type if issubclass(found, type) else found

    def class_of(self, item: Any) -> "_Kind":
        return _Kind(self.kind(item))

    # Built-ins

    def print(self, *_: Any, **__: Any) -> None:
        """Printing is allowed and goes nowhere."""

    def import_(self, name: str, _globals: Any = None, _locals: Any = None, wanted: Any = None, _: int = 0) -> Any:
        if name in INTERNAL:
            return sys.modules[name]
        if name == "collections.abc" and not wanted:
            name = "collections"  # ``import a.b`` binds a
        return self.module(name)

    def module(self, name: str) -> types.ModuleType:
        if name not in CONTENTS:
            self.refuse(f"import {name}")
        if name not in self.modules:
            made = self.modules[name] = types.ModuleType(name)
            made.__dict__.update(CONTENTS[name])
            if name == "collections":
                made.__dict__["abc"] = self.module("collections.abc")
        return self.modules[name]

    # Members of modules

    def attrgetter(self, *names: Any) -> "_Getter":
        return _Getter(names)

    def methodcaller(self, name: Any, /, *args: Any, **keywords: Any) -> "_Caller":
        return _Caller(name, args, keywords)

    def update_wrapper(self, wrapper: Any, wrapped: Any, *names: Any, **lists: Any) -> Any:
        """Name, text and attributes of ``wrapped`` for ``wrapper``; a program has no say in which."""
        if names or lists:
            self.refuse("names of update_wrapper")
        self.own(wrapper)
        for name in ("__name__", "__qualname__", "__doc__"):
            if hasattr(wrapped, name):
                setattr(wrapper, name, getattr(wrapped, name))
        if type(wrapped) is types.FunctionType and type(wrapper) is types.FunctionType:
            wrapper.__dict__.update(wrapped.__dict__)
        return wrapper

    def wraps(self, wrapped: Any, *names: Any, **lists: Any) -> Any:
        if names or lists:
            self.refuse("names of wraps")
        return _Wraps(wrapped).around

    def total_ordering(self, cls: Any) -> Any:
        return functools.total_ordering(self.own(cls))

    def deepcopy(self, item: Any, *memo: Any) -> Any:
        """Without a memo, whose keys are addresses."""
        if memo:
            self.refuse("memo of deepcopy")
        return copy.deepcopy(item)

    def namedtuple(self, name: Any, fields: Any, *, rename: bool = False, defaults: Any = None) -> Any:
        fields = fields.replace(",", " ").split() if isinstance(fields, str) else list(map(str, fields))
        if any(field.isidentifier() and language.hidden(field) for field in fields):
            self.refuse("attribute")
        made = _named_tuple(name, fields, rename=rename, defaults=defaults, module=NAME)
        self.words.update(fields)
        return made


DOORS = Doors()


def fill(text: str, *args: Any, **keywords: Any) -> str:
    """``str.format`` with plain fields."""
    _refuse_paths(text)
    return str.format(text, *args, **keywords)


def fill_map(text: str, mapping: Any) -> str:
    """``str.format_map`` with plain fields."""
    _refuse_paths(text)
    return str.format_map(text, mapping)


def _refuse_paths(text: str) -> None:
    """End the program where a field, or a field inside a format specification, has an attribute or a key."""
    if not str.__contains__(text, ".") and not str.__contains__(text, "["):
        return
    pending = [text]
    while pending:
        try:
            for _, field, specification, _ in _PARSE(pending.pop()):
                if field and ("." in field or "[" in field):
                    DOORS.refuse("format field")
                if specification and "{" in specification:
                    pending.append(specification)
        except ValueError:
            continue  # the text is no format; ``str.format`` says so itself


class _Text:
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def format(self, *args: Any, **keywords: Any) -> str:
        return fill(self.text, *args, **keywords)

    def format_map(self, mapping: Any) -> str:
        return fill_map(self.text, mapping)


class _Look:
    """Stands for an object in ``x.format``, so that what comes back can be seen."""

    __slots__ = ("item",)

    def __init__(self, item: Any) -> None:
        self.item = item

    format = property(lambda self: DOORS.looked_at(self.item, "format"))
    format_map = property(lambda self: DOORS.looked_at(self.item, "format_map"))
    register = property(lambda self: DOORS.looked_at(self.item, "register"))


class _Kind:
    __slots__ = ("kind",)

    def __init__(self, kind: Any) -> None:
        self.kind = kind


class _Getter:
    __slots__ = ("names",)

    def __init__(self, names: tuple[Any, ...]) -> None:
        if not names or not all(type(name) is str for name in names):
            raise TypeError("attribute name must be a string")
        self.names = names

    def __call__(self, item: Any) -> Any:
        found = tuple(functools.reduce(DOORS.getattr, name.split("."), item) for name in self.names)
        return found[0] if len(found) == 1 else found


class _Caller:
    __slots__ = ("args", "keywords", "name")

    def __init__(self, name: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if type(name) is not str:
            raise TypeError("method name must be a string")
        self.name, self.args, self.keywords = name, args, keywords

    def __call__(self, item: Any) -> Any:
        return DOORS.getattr(item, self.name)(*self.args, **self.keywords)


class _Wraps:
    __slots__ = ("wrapped",)

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def around(self, wrapper: Any) -> Any:
        return DOORS.update_wrapper(wrapper, self.wrapped)


class _TypeOfTypes(type):
    def __call__(cls, *args: Any, **keywords: Any) -> Any:
        if len(args) != 1 or keywords:
            DOORS.refuse("type")
        return DOORS.kind(args[0])

    def __instancecheck__(cls, item: Any) -> bool:
        return isinstance(item, type)

    def __subclasscheck__(cls, item: Any) -> bool:
        return issubclass(item, type)


class Type(metaclass=_TypeOfTypes):
    """``type`` as a program has it: it tells the type of one object, and has no subclasses."""

    __slots__ = ()

    def __init_subclass__(cls, **_: Any) -> None:
        DOORS.refuse("metaclass")

    def __class_getitem__(cls, item: Any) -> types.GenericAlias:
        return types.GenericAlias(cls, item)


Type.__module__, Type.__name__, Type.__qualname__ = "builtins", "type", "type"

_REPLACED_BUILTINS: dict[str, Any] = {
    **{name: getattr(DOORS, name) for name in ("getattr", "hasattr", "setattr", "delattr", "print")},
    "type": Type,
    "__import__": DOORS.import_,
    "__build_class__": builtins.__build_class__,
}
PLAIN: dict[str, Any] = {name: getattr(builtins, name) for name in sorted(language.BUILTINS)} | _REPLACED_BUILTINS
_REPLACED: dict[str, Any] = {
    "operator": {name: getattr(DOORS, name) for name in ("attrgetter", "methodcaller")},
    "functools": {name: getattr(DOORS, name) for name in ("update_wrapper", "wraps", "total_ordering")},
    "copy": {"deepcopy": DOORS.deepcopy},
    "collections": {"namedtuple": DOORS.namedtuple},
}


def _contents(module: str) -> dict[str, Any]:
    __import__(module)
    found = {name: getattr(sys.modules[module], name) for name in sorted(language.MEMBERS[module])}
    return found | _REPLACED.get(module, {})


CONTENTS = {module: _contents(module) for module in language.MODULES}


def fresh(ends: Ends) -> dict[str, Any]:
    """New globals for a program; ``DOORS.words`` are to be its own attributes."""
    DOORS.ends, DOORS.words, DOORS.modules = ends, set(), {}
    names = {"__builtins__": PLAIN, "__name__": NAME, fuel.TICK: ends.tick}
    looks = {rewriting.LOOK_AT: DOORS.look, rewriting.KIND: DOORS.class_of, rewriting.OWN: DOORS.own}
    return names | looks | {rewriting.HASH: hash}
