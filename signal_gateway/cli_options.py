"""Options that every command takes."""

from enum import StrEnum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from signal_gateway.config import Config
    from signal_gateway.domain.access import Scope

DEFAULT_FILE = Path("config.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file; without it config.toml here, if there is one, else the defaults."),
]


class RoleName(StrEnum):
    """What an operator may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


DevicesOption = Annotated[
    str | None, typer.Option(metavar="A,B", help="Only these devices; with neither this nor groups, the whole fleet.")
]
GroupsOption = Annotated[str | None, typer.Option(metavar="A,B", help="Only the devices of these groups.")]


SECONDS_OF = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def seconds_of(text: str) -> float:
    """A length of time: a number with d, h, m or s, or of seconds. Raises typer.BadParameter."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in SECONDS_OF else (text, "s")
    try:
        seconds = float(number) * SECONDS_OF[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < inf:
        raise typer.BadParameter(f"{text!r} is no length of time like 30d, 12h, 45m or 90s")
    return seconds


def scope_asked(devices: str | None, groups: str | None) -> "Scope":
    """The part of the fleet that both options name."""
    from signal_gateway.domain.access import Scope

    return Scope(_names(devices), _names(groups))


def _names(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(name.strip() for name in text.split(",") if name.strip())


def read_config(path: Path | None) -> "Config":
    """The settings of `path`, or of config.toml in the working directory, or the defaults. Raises ConfigError."""
    from signal_gateway.config import load_config

    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    return load_config(path)
