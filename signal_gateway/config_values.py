"""One value of the configuration: read as the type of its setting, kept within its range, and refused in words."""

import math
import tomllib
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, cast, get_args, get_origin

import msgspec

from signal_gateway.config_sources import ConfigError, Given


class Range(NamedTuple):
    """Which numbers a setting may have."""

    least: float = 0
    most: float = math.inf
    above: float = -math.inf
    """For settings where the bound itself is too little: seconds that must be more than none."""

    def holds(self, number: float) -> bool:
        """Whether `number` is one of them. Infinity and not-a-number never are."""
        return math.isfinite(number) and self.least <= number <= self.most and number > self.above

    def words(self) -> str:
        """As it is told: "from 0 to 65535"."""
        if self.most < math.inf:
            return f"from {self.least:g} to {self.most:g}"
        return f"above {self.above:g}" if self.above >= self.least else f"of {self.least:g} or more"


PORT = Range(0, 65_535)
SWITCH = Range(0)
"""0 has a meaning of its own: unlimited, or not at all."""
_RANGES = {
    "server.port": PORT,
    "server.drain_s": SWITCH,
    "presence.offline_after_s": SWITCH,
    "auth.token_warning_s": SWITCH,
    "reports.repeats_known_s": SWITCH,
    "phones.battery_low_threshold": Range(0, 100),
    "phones.signal_low_threshold": Range(0, 4),
    "phones.sms_limit_reset_hour": Range(0, 23),
    "phones.sim1_guard_interval": SWITCH,
    "phones.sim2_guard_interval": SWITCH,
}
_POSITIVE_ENDINGS = ("_s", "_interval", "_timeout", "_expiry", "_size", "_bytes", "_max", "max_connections", "max_unauthenticated")


def range_of(name: str, wanted: Any) -> Range | None:
    """Which numbers the setting `name` may have: what its type says, what its name says, and never less than 0. None: not a number."""
    base, metas = _unwrapped(wanted)
    if base not in (int, float):
        return None
    if metas:
        bounds = [Range(meta.ge if meta.ge is not None else 0, _or(meta.le, math.inf), _or(meta.gt, -math.inf)) for meta in metas]
        return bounds[0]
    if name in _RANGES:
        return _RANGES[name]
    is_rate = name.endswith(("_per_s", "_per_min", "_per_minute"))
    if name.endswith(_POSITIVE_ENDINGS) and not is_rate:
        return Range(1) if base is int else Range(above=0)
    return SWITCH


def describe(name: str, wanted: Any) -> str:
    """What the setting wants, for people: "a whole number from 0 to 65535"."""
    base, _ = _unwrapped(wanted)
    bounds = range_of(name, wanted)
    if bounds is not None:
        return f"{'a whole number' if base is int else 'a number'} {bounds.words()}"
    if base is bool:
        return "true or false"
    if get_origin(base) is Literal:
        words = [f'"{word}"' for word in get_args(base)]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    return "a list of texts" if _is_list(base) else "a text"


def read_value(name: str, given: Given, wanted: Any, is_secret: bool) -> Any:
    """The value of setting `name` in its type. Raises ConfigError that says what was expected and what came; never a secret."""
    try:
        value = _list_of(given.value) if given.is_text and _is_list(_unwrapped(wanted)[0]) else given.value
        value = msgspec.convert(value, wanted, strict=not given.is_text)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError):
        raise _refusal(name, given, wanted, is_secret) from None
    bounds = range_of(name, wanted)
    if bounds is not None and value is not None and not bounds.holds(value):
        raise _refusal(name, given, wanted, is_secret)
    return value


def _refusal(name: str, given: Given, wanted: Any, is_secret: bool) -> ConfigError:
    return ConfigError([f"{given.origin}: {name}: expected {describe(name, wanted)}, got {_show(given, is_secret)}"])


def _show(given: Given, is_secret: bool) -> str:
    value = given.value
    kind = {bool: "", int: "the number ", float: "the number ", str: "the text ", list: "a list", dict: "a table"}.get(
        type(value), "a date"
    )
    if is_secret:
        return "something else"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"{kind}{value[:80]!r}"
    if isinstance(value, list):
        odd = [item for item in cast("list[object]", value) if not isinstance(item, str)]
        return f"a list with {odd[0]!r}" if odd else kind
    return f"{kind}{value}" if isinstance(value, int | float) else kind


def _list_of(text: str) -> list[Any]:
    """A list in an environment variable: `a, b`, or as in TOML `["a", "b"]`."""
    if text.lstrip().startswith("["):
        return tomllib.loads(f"list = {text}")["list"]
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_list(base: Any) -> bool:
    return get_origin(base) in (tuple, list, frozenset)


def _unwrapped(wanted: Any) -> tuple[Any, list[msgspec.Meta]]:
    """The type without its annotations and without None."""
    if get_origin(wanted) is Annotated:
        base, *metas = get_args(wanted)
        return _unwrapped(base)[0], [meta for meta in metas if isinstance(meta, msgspec.Meta)]
    if get_origin(wanted) in (Union, UnionType):
        return _unwrapped(next(part for part in get_args(wanted) if part is not type(None)))
    return wanted, []


def _or(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound
