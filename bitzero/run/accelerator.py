"""Which device a run is to use, asked of the driver before JAX is imported, and why not the other, in one line.

JAX takes a list of platforms literally, and a CUDA that cannot start ends the program: a WSL2 machine with another
maker's GPU, an old driver, a container without the driver's library, an installation of JAX for CPUs. So the driver is
asked first, by ctypes, and CUDA is named only where it will start. Imports neither JAX nor what Linux alone has.
"""

import ctypes
import dataclasses
import importlib.metadata
import sys
import types
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from bitzero.config import ConfigError

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # cuda.h, CUdevice_attribute
_OLDEST = {12: (5, 2), 13: (7, 5)}  # CUDA's major version → least compute capability of a card
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})  # as JAX reads its own switches
# Share of the card's memory that JAX takes at the start. Its own default, set on purpose: a card that also draws the
# desktop needs the rest, and the memory that a run is fitted to must not change with JAX's mind.
MEMORY_FRACTION = "0.75"
_FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")  # its name in JAX, and its name of before


class Card(NamedTuple):
    """A GPU as its driver describes it."""

    name: str
    capability: tuple[int, int]
    memory: int  # bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Driver:
    """What the NVIDIA driver says."""

    cards: tuple[Card, ...] = ()
    version: int = 0  # largest CUDA it serves, 1000 · major + 10 · minor
    trouble: str = ""  # why there is no card


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What to do before JAX is imported."""

    settings: dict[str, str] = dataclasses.field(default_factory=dict)  # environment variables to set
    line: str = ""  # the device, and why not another
    refusal: str = ""  # one sentence; nothing can run as asked
    card: str = ""  # name of the card that is used; '' is none


def system_refusal(system: str, environment: Mapping[str, str]) -> str:
    """Why nothing runs on this ``system`` (``platform.system()``) or with these switches of JAX; '' where it does."""
    if system != "Linux":
        where = {"Windows": "on Windows use WSL2", "Darwin": "on a Mac use a Linux machine or container"}
        return f"BitZero needs Linux, whose kernel confines what a model writes; {where.get(system, 'use Linux')}"
    if environment.get("JAX_ENABLE_X64", "").lower() in _TRUE:
        return "JAX_ENABLE_X64 doubles every type, which BitZero's exact products are not made for; unset it"
    return ""


def cuda_plugin() -> int:
    """Major version of the CUDA that the installed JAX is built for; 0 where it has no CUDA."""
    for major in sorted(_OLDEST, reverse=True):
        try:
            importlib.metadata.version(f"jax-cuda{major}-plugin")
        except importlib.metadata.PackageNotFoundError:
            continue
        return major
    return 0


def ask_driver(library: str = "libcuda.so.1") -> Driver:
    """The cards that the driver's ``library`` knows of, or the trouble it has; never raises."""
    try:
        cuda = ctypes.CDLL(library)
        cuda.cuInit.restype = ctypes.c_int
        if code := cuda.cuInit(0):
            return Driver(trouble=f"the NVIDIA driver says: {_error_text(cuda, code)}")
        version, count = ctypes.c_int(), ctypes.c_int()
        cuda.cuDriverGetVersion(ctypes.byref(version))
        if code := cuda.cuDeviceGetCount(ctypes.byref(count)):
            return Driver(trouble=f"the NVIDIA driver says: {_error_text(cuda, code)}")
        cards = tuple(_card(cuda, ordinal) for ordinal in range(count.value))
    except OSError:
        return Driver(trouble=f"no NVIDIA driver ({library}) here")
    except AttributeError as error:
        return Driver(trouble=f"{library} is no NVIDIA driver ({error})")
    return Driver(cards=cards, version=version.value, trouble="" if cards else "the NVIDIA driver shows no card")


def choice_here(environment: Mapping[str, str]) -> Choice:
    """``choose`` on this machine, whose driver is asked where a GPU may be wanted."""
    asked = environment.get("JAX_PLATFORMS", "").strip().lower()
    driver = Driver(trouble="not asked") if asked == "cpu" else ask_driver()
    return choose(environment, driver, cuda_plugin())


def choose(environment: Mapping[str, str], driver: Driver, plugin: int) -> Choice:
    """The settings that make JAX use the first card that will do, or the CPU; ``plugin`` is ``cuda_plugin()``.

    What the user has set stays. What cannot be had is refused if nothing else is named: CUDA where it cannot start, a
    card that is not there.
    """
    asked = [name.strip().lower() for name in environment.get("JAX_PLATFORMS", "").split(",") if name.strip()]
    without = [name for name in asked if name not in ("cuda", "gpu")]
    said = f"JAX_PLATFORMS={environment.get('JAX_PLATFORMS', '')}"
    if asked and without == asked:
        return Choice(line=f"device: as {said} says")
    named, mistake = named_cards(environment, driver)
    at, why = usable_card(driver, plugin, named)
    mistake = "" if why else mistake or both_fractions(environment)
    if mistake and not without:
        return Choice(refusal=f"{mistake}, or set JAX_PLATFORMS=cpu")
    why = why or mistake
    if asked and why:
        if not without:
            return Choice(refusal=f"{said} cannot be had: {why}; unset it, or set JAX_PLATFORMS=cpu")
        return Choice(settings={"JAX_PLATFORMS": ",".join(without)}, line=f"device: {without[0]} ({said}: {why})")
    if why:
        return Choice(settings={"JAX_PLATFORMS": "cpu"}, line=f"device: CPU; no GPU: {why}")
    settings = {"JAX_CUDA_VISIBLE_DEVICES": str(at), memory_variable(environment): MEMORY_FRACTION}
    settings = {name: value for name, value in settings.items() if not environment.get(name)}
    if asked and asked[0] in without:
        return Choice(settings=settings, line=f"device: as {said} says")
    reason = f"as {said} says" if asked else "the CPU: with JAX_PLATFORMS=cpu"
    line = card_line(driver, at, len(named) or 1, plugin, reason)
    platforms = {} if asked else {"JAX_PLATFORMS": "cuda,cpu"}
    return Choice(settings=platforms | settings, line=line, card=driver.cards[at].name)


def card_line(driver: Driver, at: int, taken: int, plugin: int, reason: str) -> str:
    """The line that names a card, ``taken`` of the driver's being used, and the reason."""
    card, others = driver.cards[at], len(driver.cards) - taken
    left = f"; {others} other {'cards are' if others > 1 else 'card is'} left alone" if others else ""
    return f"device: {card.name}, {card.memory / 1e9:.1f} GB, CUDA {plugin}; {reason}{left}"


def named_cards(environment: Mapping[str, str], driver: Driver) -> tuple[tuple[int, ...], str]:
    """The driver's numbers of the cards that the user named to JAX, in rising order; and why they cannot be had, or ''.

    Empty where none was named, or the driver has none. A run uses the first, as JAX does.
    """
    text = environment.get("JAX_CUDA_VISIBLE_DEVICES", "")
    if not text or not driver.cards:
        return (), ""
    if text == "all":
        return tuple(range(len(driver.cards))), ""
    words, last = [word.strip() for word in text.split(",")], len(driver.cards) - 1
    if not all(word.isdecimal() and int(word) <= last for word in words):
        there = f"the cards 0 to {last}" if last else "one card, 0"
        return (), f"JAX_CUDA_VISIBLE_DEVICES={text} names no card, the driver shows {there}: unset it"
    return tuple(sorted({int(word) for word in words})), ""


def settle_device(environment: MutableMapping[str, str]) -> str:
    """Sets what JAX reads when it is imported; the value is the line that says which device that will be.

    Raises ``ConfigError`` where nothing can run as asked.
    """
    asked = environment.get("JAX_PLATFORMS", "").strip().lower()
    choice = choice_here(environment)
    if choice.refusal:
        raise ConfigError(choice.refusal)
    environment.update(choice.settings)
    if choice.settings.get("JAX_PLATFORMS", asked) == "cpu":
        leave_cuda_out()
    return choice.line


def leave_cuda_out() -> None:
    """Keeps JAX, not yet imported, from loading its CUDA plugin, 340 MB even where only a CPU is named."""
    for version in _OLDEST:
        empty: Any = types.ModuleType(f"jax_plugins.xla_cuda{version}")
        empty.initialize = lambda: None
        sys.modules.setdefault(empty.__name__, empty)


def usable_card(driver: Driver, plugin: int, named: Sequence[int] = ()) -> tuple[int, str]:
    """Ordinal of the first card that this JAX can use (CUDA lists the fastest first), or 0 and why there is none.

    Of cards that are ``named`` JAX takes the first, so that none but this one is judged.
    """
    if driver.trouble:
        return 0, driver.trouble
    if not plugin:
        return 0, f"{driver.cards[0].name} is there, but the installed JAX has no CUDA: install requirements.txt"
    if driver.version // 1000 < plugin:
        have = f"{driver.version // 1000}.{driver.version % 1000 // 10}"
        return 0, f"the NVIDIA driver serves CUDA {have}, the installed JAX needs {plugin}: install a newer driver"
    looked_at = named[:1] or range(len(driver.cards))
    for at in looked_at:
        if driver.cards[at].capability >= _OLDEST[plugin]:
            return at, ""
    card, least = driver.cards[looked_at[0]], ".".join(map(str, _OLDEST[plugin]))
    return (
        0,
        f"{card.name} has compute capability {card.capability[0]}.{card.capability[1]}, CUDA {plugin} needs {least}",
    )


def memory_variable(environment: Mapping[str, str]) -> str:
    """The name that JAX is told the fraction by: its new one where the user has set that, as it refuses both."""
    new, old = _FRACTIONS
    return new if environment.get(new) else old


def both_fractions(environment: Mapping[str, str]) -> str:
    """Why JAX would start no GPU: the fraction is set by both its names; '' where it is not."""
    new, old = _FRACTIONS
    both = environment.get(new) and environment.get(old)
    return f"{new} and {old} are both set, and JAX takes one of them: unset the second" if both else ""


def memory_share(environment: Mapping[str, str], runs: int) -> str:
    """The fraction of the card's memory for each of several ``runs`` at once, rounded down; raises ``ConfigError``."""
    name = memory_variable(environment)
    text = environment.get(name) or MEMORY_FRACTION
    try:
        return f"{int(1000 * float(text) / runs) / 1000:g}"
    except ValueError:
        raise ConfigError(f"{name}={text} must be a number, such as 0.75") from None


def share_of_card(environment: Mapping[str, str], driver: Driver) -> int:
    """Bytes of the card in use that JAX is told to take; 0 where the driver shows no card."""
    if not driver.cards:
        return 0
    named, _ = named_cards(environment, driver)
    return int(driver.cards[named[0] if named else 0].memory * float(memory_share(environment, 1)))


def is_slow_at_16_bits(name: str) -> bool:
    """Whether the card is a GTX 16: Turing without tensor cores, which has no bf16, so that f32 products are faster."""
    return "GTX 16" in name


def _card(cuda: ctypes.CDLL, ordinal: int) -> Card:
    """The card of an ordinal; what cannot be asked is 0."""
    device, text = ctypes.c_int(), ctypes.create_string_buffer(256)
    memory, major, minor = ctypes.c_size_t(), ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(text, len(text), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    return Card(text.value.decode(errors="replace"), (major.value, minor.value), memory.value)


def _error_text(cuda: ctypes.CDLL, code: int) -> str:
    """What the driver calls an error."""
    text = ctypes.c_char_p()
    if cuda.cuGetErrorString(code, ctypes.byref(text)) or not text.value:
        return f"error {code}"
    return text.value.decode(errors="replace")
