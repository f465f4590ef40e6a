"""Options that every command takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from signal_gateway.config import Config

DEFAULT_FILE = Path("config.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file; without it config.toml here, if there is one, else the defaults."),
]


def read_config(path: Path | None) -> "Config":
    """The settings of `path`, or of config.toml in the working directory, or the defaults. Raises ConfigError."""
    from signal_gateway.config import load_config

    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    return load_config(path)
