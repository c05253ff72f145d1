"""Addresses stay out of values: no text of an object shows one, and no order of a set follows from one unnoticed.

``close`` puts a function of this module in the place of every ``repr`` of the interpreter that prints an address: it
ends the program, whichever way the text was asked for (``str``, ``%``, an f-string, an exception's message, a list).
``salt`` does the same to every hash that is an address: it becomes a hash of address and hash seed, so that orders
differ between seeds even where addresses do not (without address-space randomisation, or of types, whose places in
the interpreter's own file are fixed). Both write slots of type objects, whose layout all CPython since 3.8 shares.
"""

import _thread
import copy
import ctypes
import gc
import types
import weakref
from array import array
from collections.abc import Callable, Iterable
from typing import Any

_WORD = ctypes.sizeof(ctypes.c_void_p)
_NAME, _REPR, _HASH = 3 * _WORD, 11 * _WORD, 15 * _WORD  # slots of a type: after reference count, type and size
_WRAPPED = 6 * _WORD  # of a wrapper descriptor: after head, type, name, qualified name and base
_PRINTING_ADDRESSES = (
    object, types.FunctionType, types.BuiltinFunctionType, types.MethodWrapperType, types.GeneratorType,
    types.CoroutineType, types.AsyncGeneratorType, types.CodeType, types.FrameType, types.CellType,
    weakref.ReferenceType, weakref.ProxyType, weakref.CallableProxyType, _thread.LockType, _thread.RLock,
)  # fmt: skip
# By what a program imports: modules of other types that may have instances, or be types of types, in its hands.
_HELD = {
    "": ("builtins", "itertools", "_collections"),
    "functools": ("functools",),
    "operator": ("operator", "bitzero.sandbox.namespace"),
    "re": ("re", "enum", "_sre"),
    "string": ("string",),
    "typing": ("typing", "types"),
}
_KINDS_OF_TYPES = ("ABCMeta", "_TypeOfTypes")
_HASHING_ADDRESSES = (object, types.BuiltinFunctionType, types.MethodWrapperType)


def _nothing() -> None:
    """No program is at work."""


on_repr: Callable[[], None] = _nothing  # called where a text would show an address


@ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)
def _repr(item: Any) -> str:
    if type(item) is types.BuiltinFunctionType and (item.__self__ is None or type(item.__self__) is types.ModuleType):
        return f"<built-in function {item.__name__}>"
    on_repr()
    return f"<{type(item).__qualname__} object>"


@ctypes.PYFUNCTYPE(ctypes.c_ssize_t, ctypes.py_object)
def _hash(item: Any) -> int:
    if type(item) is types.BuiltinFunctionType or type(item) is types.MethodWrapperType:
        return hash(("salt", id(item.__self__), item.__name__))  # equal ones are different objects
    return hash(("salt", id(item)))


_hash_pointer = ctypes.c_void_p.from_buffer_copy(_hash)
_slots: dict[str, "array[int]"] = {}  # addresses of the slots of hashes, by what a program imports


def close() -> None:
    """Replace the texts that show addresses, for good, and find the hashes. In a zygote, before the doors close.

    Raises ``RuntimeError`` where type objects are laid out in another way than this module knows.
    """
    if ctypes.string_at(_at(id(int), _NAME).value or 0) != b"int":
        raise RuntimeError("identity: type objects of this interpreter have another layout")
    kinds = _all_types()
    for at in _places(kinds, "__repr__", _REPR, _PRINTING_ADDRESSES):
        at.value = ctypes.cast(_repr, ctypes.c_void_p).value
    for name, modules in _HELD.items():
        held = [kind for kind in kinds if kind.__module__ in modules or (not name and kind.__name__ in _KINDS_OF_TYPES)]
        _slots[name] = array("Q", map(ctypes.addressof, _places(held, "__hash__", _HASH, _HASHING_ADDRESSES)))


def salt(imported: Iterable[str]) -> None:
    """Make the hashes that are addresses depend on the hash seed. In a child, before any set of the program is made.

    ``imported``: modules of the program. Each page of types that is written is a page copied, 8 µs.
    """
    for name in ("", *imported):
        for address in _slots.get(name, ()):
            ctypes.memmove(address, ctypes.byref(_hash_pointer), _WORD)
    for table in (copy._copy_dispatch, copy._deepcopy_dispatch):  # type: ignore[attr-defined]
        items = list(table.items())  # keys are types, whose hashes are others now
        table.clear()
        table.update(items)


def _at(address: int, offset: int) -> ctypes.c_void_p:
    return ctypes.c_void_p.from_address(address + offset)


def _places(kinds: list[type], name: str, offset: int, sources: tuple[type, ...]) -> list[ctypes.c_void_p]:
    """Every slot, and every descriptor that classes inherit it through, with the function of one of ``sources``."""
    functions = {_at(id(kind), offset).value for kind in sources}
    places = [_at(id(kind), offset) for kind in kinds]
    for kind in kinds:
        descriptor = type.__getattribute__(kind, "__dict__").get(name)
        if type(descriptor) is types.WrapperDescriptorType:
            places.append(_at(id(descriptor), _WRAPPED))
    return [place for place in places if place.value in functions]


def _all_types() -> list[type]:
    found: dict[int, type] = {}
    pending: list[type] = [object, *(item for item in gc.get_objects() if isinstance(item, type))]
    while pending:
        kind = pending.pop()
        if id(kind) not in found:
            found[id(kind)] = kind
            pending += type.__subclasses__(kind)
    return list(found.values())
