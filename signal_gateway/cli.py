"""The command `signal-gateway`: thin commands around the parts that do the work, and errors in one readable line.

What is heavy is imported inside of the command that needs it, so that `--help` answers at once.
"""

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from signal_gateway.cli_errors import CommandFailed, sentences
from signal_gateway.cli_frames import frames
from signal_gateway.cli_keys import keys
from signal_gateway.cli_options import ConfigOption, read_config
from signal_gateway.cli_rooms import rooms
from signal_gateway.cli_tokens import tokens

if TYPE_CHECKING:
    from signal_gateway.config import Config

EXIT_ERROR = 2


class PhoneBehaviour(StrEnum):
    """How well simulated phones do what they are told."""

    PERFECT = "perfect"
    REAL_LIFE = "real-life"
    ROUGH = "rough"


app = typer.Typer(
    name="signal-gateway",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(keys, name="key")
app.add_typer(tokens, name="token")
app.add_typer(frames, name="frame")
app.add_typer(rooms, name="rooms")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code: 0 done, 1 the answer is no, 2 an error, told in one line each."""
    try:
        result = app(args=arguments if arguments is None else list(arguments), standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except TyperException as error:
        _tell([error.format_message()])
        return EXIT_ERROR
    except Exception as error:
        said = sentences(error)
        if said is None:  # a fault of ours: its traceback is what helps
            raise
        _tell(said)
        return EXIT_ERROR
    return result if isinstance(result, int) else 0


def _tell(said: Sequence[str]) -> None:
    for sentence in said:
        print(f"error: {' '.join(sentence.split())}", file=sys.stderr)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        print(version("signal-gateway"))
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end.")]


@app.callback()
def root(version: VersionOption = False) -> None:
    """One server that holds the live links of a whole fleet: phones, microcontrollers, WebRTC agents and dashboards."""
    del version  # told by its callback, before any command is looked at


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the server until SIGTERM or Ctrl-C. Makes and migrates the database itself."""
    settings = _checked(config)
    from signal_gateway.cli_start import run_server

    if not run_server(settings):
        raise typer.Exit(1)


@app.command("check-config")
def check_config(
    config: ConfigOption = None,
    print_default: Annotated[bool, typer.Option("--print-default", help="Print a configuration with every key and its default.")] = False,
) -> None:
    """Say what is wrong with the configuration: every problem, one line each. Nothing is started or changed."""
    if print_default:
        from signal_gateway.config_text import toml_text

        print(toml_text(), end="")
        return
    settings = _checked(config)
    print(f"{settings.path or 'the defaults'}: fine")


@app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the database to the version of this program. `serve` does so itself."""
    settings = read_config(config)
    from signal_gateway.cli_start import migrate_database

    print(migrate_database(settings))


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The new file that the copy is to be.")], config: ConfigOption = None
) -> None:
    """Copy the database of a running server into one file, checked and for nobody else to read (SQLite)."""
    settings = read_config(config)
    from signal_gateway.storage.backup import back_up

    size = back_up(settings.storage, settings.data_dir, target)
    print(f"{target}: {size:,} bytes. Keep {settings.data_dir / 'secrets'} beside it: without the pepper no key in it works.")


@app.command()
def simulate(
    url: Annotated[
        str | None, typer.Option(help="The server's WebSocket endpoint; without it the one that the configuration gives.")
    ] = None,
    phones: Annotated[int, typer.Option(min=0, help="Phones that connect, beat and report.")] = 50,
    agents: Annotated[int, typer.Option(min=0, help="Agents that register and beat.")] = 10,
    rooms: Annotated[int, typer.Option(min=0, help="Pairs of agents more, who call each other in rooms.")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="How long; 0 = until Ctrl-C.")] = 0.0,
    enrolment_key: Annotated[
        str | None,
        typer.Option(envvar="SIMULATE_ENROLMENT_KEY", help="Key that brings them in; without it the first in the configuration."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.001, help="Messages a second of each of them.")] = 1.0,
    prefix: Annotated[str, typer.Option(help="How their ids begin.")] = "sim",
    behaviour: Annotated[PhoneBehaviour, typer.Option(help="How well phones do what they are told.")] = PhoneBehaviour.PERFECT,
    hostile: Annotated[int, typer.Option(min=0, help="Hostile clients of each kind beside them, against a server on this machine.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Drive a running server with a simulated fleet, and show rates, latencies and errors."""
    import trio

    from signal_gateway.cli_start import endpoint, first_enrolment_key
    from signal_gateway.observe.collector import settle_collector
    from signal_gateway.testing import fleet
    from signal_gateway.testing.behaviour import BEHAVIOURS

    settings = read_config(config)
    plan = fleet.Plan(
        url=url or endpoint(settings, settings.server.port),
        phones=phones,
        agents=agents,
        rooms=rooms,
        seconds=seconds or None,
        enrolment_key=enrolment_key or first_enrolment_key(settings),
        rate_per_s=rate,
        prefix=prefix,
        behaviour=BEHAVIOURS[behaviour.value],
        hostile=hostile,
    )
    settle_collector()  # of a second, a fleet of thousands would else spend a sixth on garbage, and measure that
    if not trio.run(fleet.run, plan):
        raise typer.Exit(1)


def _checked(path: Path | None) -> "Config":
    """The configuration, looked through as before a start: notices are told, a refusal ends the command."""
    settings = read_config(path)
    from signal_gateway.config_safety import notices, refusals

    for notice in notices(settings):
        print(f"note: {notice}", file=sys.stderr)
    if said := refusals(settings):
        raise CommandFailed(*said)
    return settings
