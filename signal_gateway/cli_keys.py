"""`signal-gateway key`: enrolment, client and device keys, made, listed and revoked beside a running server or without one."""

import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from signal_gateway.cli_errors import CommandFailed
from signal_gateway.cli_options import ConfigOption, DevicesOption, GroupsOption, RoleName, read_config, scope_asked

if TYPE_CHECKING:
    from signal_gateway.config import Config
    from signal_gateway.domain.credential import Credential
    from signal_gateway.services.credentials import Credentials

MS_PER_DAY = 86_400_000
R = TypeVar("R")

keys = typer.Typer(help="Keys of phones and agents.", no_args_is_help=True, rich_markup_mode=None)


class Kind(StrEnum):
    """What a key is good for."""

    ENROLMENT = "enrolment"
    CLIENT = "client"
    DEVICE = "device"
    OPERATOR = "operator"


@keys.command()
def create(
    kind: Annotated[
        Kind,
        typer.Option(help="enrolment brings devices in; client is an agent's token; device a phone's own key; operator is for programs."),
    ] = Kind.ENROLMENT,
    label: Annotated[str, typer.Option(help="What people call it.")] = "",
    client_id: Annotated[str | None, typer.Option("--client-id", help="The one id that a client or device key is for.")] = None,
    group: Annotated[str | None, typer.Option(help="The group that devices of an enrolment key join.")] = None,
    sitename: Annotated[str, typer.Option(help="With --qr: the site that phones are told they are at.")] = "",
    max_devices: Annotated[int | None, typer.Option(min=1, help="How many devices an enrolment key brings in.")] = None,
    expires_days: Annotated[float | None, typer.Option(min=0.0, help="After so many days it brings nobody new in.")] = None,
    role: Annotated[RoleName | None, typer.Option(help="Of an operator key: what it may do.")] = None,
    devices: DevicesOption = None,
    groups: GroupsOption = None,
    qr: Annotated[bool, typer.Option("--qr", help="Draw the code that phones read: where to connect, and this enrolment key.")] = False,
    config: ConfigOption = None,
) -> None:
    """Make a key. Its secret is shown once, alone on the last line."""
    from signal_gateway.domain.access import Role
    from signal_gateway.domain.credential import CredentialKind

    wanted = CredentialKind(kind.value)
    if (kind in (Kind.CLIENT, Kind.DEVICE)) != (client_id is not None):
        raise CommandFailed("--client-id names the one id of a client or device key; the others have none")
    if (kind is Kind.OPERATOR) != (role is not None) or (kind is not Kind.OPERATOR and (devices or groups)):
        raise CommandFailed("--role, --devices and --groups are for operator keys, which need a role")
    if kind is not Kind.ENROLMENT and (group is not None or max_devices is not None):
        raise CommandFailed("--group and --max-devices are for enrolment keys")
    if qr and kind is not Kind.ENROLMENT:
        raise CommandFailed("--qr draws an enrolment key: phones read no other")
    if sitename and not qr:
        raise CommandFailed("--sitename is told by the code that --qr draws")
    settings = read_config(config)
    expires_at = None if expires_days is None else wall_ms() + round(expires_days * MS_PER_DAY)

    async def work(credentials: "Credentials") -> tuple[str, str]:
        try:
            return await credentials.create(
                wanted,
                label,
                client_id,
                group,
                max_devices,
                expires_at,
                role=None if role is None else Role(role.value),
                scope=scope_asked(devices, groups),
            )
        except ValueError as error:
            raise CommandFailed(str(error)) from None

    key_id, secret = _with_credentials(settings, work)
    if qr:
        _draw(settings, secret, group, sitename)
    print(f"{kind.value} key {key_id}: this is the only time that it is shown")
    print(secret)


@keys.command("list")
def list_keys(config: ConfigOption = None) -> None:
    """List the stored keys, newest first; never their secrets. Keys of the configuration file stand there."""

    async def work(credentials: "Credentials") -> "list[Credential]":
        return await credentials.list()

    now = wall_ms()
    head = ("id", "kind", "for", "state", "created", "label")
    rows = [head, *(_row(credential, now) for credential in _with_credentials(read_config(config), work))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `key list` shows: the part between sgk_ and the next _.")],
    config: ConfigOption = None,
) -> None:
    """Revoke a key. Its links on a running server are closed within 5 seconds."""

    async def work(credentials: "Credentials") -> bool:
        return await credentials.revoke(key_id)

    if not _with_credentials(read_config(config), work):
        raise CommandFailed(f"there is no key {_short(key_id)} that could be revoked")
    print(f"revoked {key_id}")


def wall_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def _with_credentials(config: "Config", work: "Callable[[Credentials], Awaitable[R]]") -> R:
    import trio

    from signal_gateway.bus.local import LocalBus
    from signal_gateway.cli_start import database_open
    from signal_gateway.observe.metrics import Metrics
    from signal_gateway.services.credentials import Credentials
    from signal_gateway.services.secret_file import read_or_make_secret

    async def run() -> R:
        pepper = read_or_make_secret(config.data_dir / "secrets" / "pepper")
        async with database_open(config) as database:
            return await work(Credentials(database, LocalBus(Metrics()), pepper, wall_ms))

    return trio.run(run)


def _draw(config: "Config", key: str, group: str | None, sitename: str) -> None:
    """The code of T-36 in half blocks, for a phone that is held before the screen. Where phones connect: `server.public_url`, or here."""
    import segno

    from signal_gateway.services.provisioning import provisioning_data, provisioning_text

    scheme = "wss" if config.server.tls_enabled else "ws"
    url = config.server.public_url or f"{scheme}://{config.server.host}:{config.server.port}/ws"
    text = provisioning_text(provisioning_data(key, url, config.phones, wall_ms(), group or "", sitename))
    segno.make_qr(text, error="l").terminal(compact=True)
    print(f"It leads to {url}")


def _row(credential: "Credential", now_ms: int) -> tuple[str, ...]:
    state = "revoked" if credential.revoked_at is not None else "expired" if credential.is_expired(now_ms) else "live"
    if credential.role is not None:
        scope = credential.scope
        named = sorted(scope.devices or ()) + [f"group {group}" for group in sorted(scope.groups or ())]
        held = f"{credential.role.value} of {'the whole fleet' if scope.is_whole_fleet else ', '.join(named)}"
        return credential.id, credential.kind.value, held, state, _day(credential.created_at), credential.label
    devices = f"at most {credential.max_devices} devices" if credential.max_devices is not None else "any device"
    scope = credential.client_id or " of ".join(filter(None, (devices, credential.device_group)))
    return credential.id, credential.kind.value, scope, state, _day(credential.created_at), credential.label


def _day(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(ms / 1000))


def _short(text: str) -> str:
    """What somebody gave as an id may be the whole key: it is not repeated."""
    return repr(text[:12] + ("…" if len(text) > 12 else ""))
