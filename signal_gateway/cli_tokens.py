"""`signal-gateway token`: tokens of operators and clients, issued and revoked beside a running server or without one (CONTRACT.md §4)."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from signal_gateway.cli_errors import CommandFailed
from signal_gateway.cli_keys import wall_ms
from signal_gateway.cli_options import ConfigOption, DevicesOption, GroupsOption, read_config, scope_asked, seconds_of

if TYPE_CHECKING:
    from signal_gateway.config import Config
    from signal_gateway.services.operators import Operators

R = TypeVar("R")


class HolderRole(StrEnum):
    """Who is to have the token."""

    DEVICE = "device"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


tokens = typer.Typer(help="Tokens of operators, and of clients of /ws.", no_args_is_help=True, rich_markup_mode=None)


@tokens.command()
def issue(
    subject: Annotated[str, typer.Option(help="Who is to have it: a person, a program, or the id of a client.")],
    role: Annotated[
        HolderRole,
        typer.Option(help="viewer reads, operator commands, admin makes keys and deletes devices; device is the client SUBJECT of /ws."),
    ] = HolderRole.OPERATOR,
    devices: DevicesOption = None,
    groups: GroupsOption = None,
    expires: Annotated[
        float | None,
        typer.Option(
            parser=seconds_of,
            metavar="30d|12h|45m|90s",
            help="How long it is good for; else auth.token_expiry seconds. Its bearer may get newer ones.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Issue a token for the operator's API, or for a client to CONNECT or REGISTER with. It is shown once, alone on the last line."""
    from signal_gateway.domain.access import Role

    settings = read_config(config)
    seconds = settings.auth.token_expiry if expires is None else round(expires)

    async def work(operators: "Operators") -> tuple[str, str]:
        try:
            token = await operators.issue(subject, Role(role.value), scope_asked(devices, groups), seconds)
        except ValueError as error:
            raise CommandFailed(str(error)) from None
        return token, operators.token_id_of(token) or ""

    token, token_id = _with_operators(settings, work)
    print(f"{role.value} token {token_id} for {subject}, good for {seconds} s: this is the only time that it is shown")
    print(token)


@tokens.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `token issue` showed; a whole token will do, too.")],
    config: ConfigOption = None,
) -> None:
    """Revoke a token and those refreshed from it. A running server refuses them within 5 seconds, and ends their links."""

    from signal_gateway.services.tokens import is_token_id

    async def work(operators: "Operators") -> tuple[bool, bool]:
        found = operators.token_id_of(token_id) if "." in token_id else token_id
        if found is None:
            raise CommandFailed("this is no token of this gateway")
        if not is_token_id(found):
            raise CommandFailed("this is no id of a token: it has 8 to 64 letters, digits, - and _")
        return await operators.revoke(found), "." in token_id or await operators.has_issued(found)

    is_new, is_known = _with_operators(read_config(config), work)
    if not is_new:
        raise CommandFailed("this token was revoked before")
    print(
        "revoked"
        if is_known
        else "revoked; but of a token of this id nothing is known here: if it is not of a room, see whether it is right"
    )


def _with_operators(config: "Config", work: "Callable[[Operators], Awaitable[R]]") -> R:
    import trio

    from signal_gateway.bus.local import LocalBus
    from signal_gateway.cli_start import database_open
    from signal_gateway.config_safety import token_secret
    from signal_gateway.observe.metrics import Metrics
    from signal_gateway.services.credentials import Credentials
    from signal_gateway.services.operators import Operators
    from signal_gateway.services.secret_file import read_or_make_secret

    async def run() -> R:
        metrics = Metrics()
        pepper = read_or_make_secret(config.data_dir / "secrets" / "pepper")
        async with database_open(config) as database:
            bus = LocalBus(metrics)
            credentials = Credentials(database, bus, pepper, wall_ms)
            return await work(Operators(database, bus, credentials, None, metrics, token_secret(config), wall_ms))

    return trio.run(run)
