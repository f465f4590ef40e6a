"""All settings of one gateway: gathered from where each stands, read from file and environment, checked as a whole.

A section is a class beside what it sets; this file only gathers them. `config.toml` and `docs/configuration.md` are written from the
same classes (`config_text.py`), so they cannot say anything else than the code.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec.structs import FieldInfo

from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.config_sources import ConfigError, Known, Settings, read_environment, read_file
from signal_gateway.config_values import read_value
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.observe.logs import LoggingSettings
from signal_gateway.observe.plain_http import MetricsSettings
from signal_gateway.services.alarm_settings import AlarmsSettings
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.limits import LimitsSettings
from signal_gateway.services.presence import PresenceSettings
from signal_gateway.services.report_feed import FeedSettings
from signal_gateway.services.reports import ReportsSettings
from signal_gateway.services.retention import RetentionSettings
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.services.turn import MediaSettings
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.websocket.admission import SecuritySettings
from signal_gateway.websocket.link_settings import LinkSettings
from signal_gateway.websocket.outbox import OutboxSettings
from signal_gateway.websocket.request_head import HandshakeSettings
from signal_gateway.websocket.server_settings import ServerSettings, SessionSettings

SECRETS: Mapping[str, str] = {
    "auth.token_secret": "signs tokens",
    "auth.api_keys": "tokens of agents",
    "auth.enrolment_keys": "keys of phones",
    "cloudflare.app_secret": "key of the media backend",
    "media.turn_secret": "makes credentials for TURN servers",
    "storage.url": "may hold a password",
}
"""Settings whose values are never shown, and why."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gateway's settings, by section. Its repr tells no secret."""

    server: ServerSettings = ServerSettings()
    http: HttpSettings = HttpSettings()
    auth: AuthSettings = AuthSettings()
    storage: StorageSettings = StorageSettings()
    media: MediaSettings = MediaSettings()
    cloudflare: CloudflareSettings = CloudflareSettings()
    logging: LoggingSettings = LoggingSettings()
    metrics: MetricsSettings = MetricsSettings()
    session: SessionSettings = SessionSettings()
    security: SecuritySettings = SecuritySettings()
    limits: LimitsSettings = LimitsSettings()
    handshake: HandshakeSettings = HandshakeSettings()
    link: LinkSettings = LinkSettings()
    outbox: OutboxSettings = OutboxSettings()
    presence: PresenceSettings = PresenceSettings()
    commands: CommandsSettings = CommandsSettings()
    alarms: AlarmsSettings = AlarmsSettings()
    reports: ReportsSettings = ReportsSettings()
    rooms: RoomsSettings = RoomsSettings()
    retention: RetentionSettings = RetentionSettings()
    feed: FeedSettings = FeedSettings()
    phones: PhoneSettings = PhoneSettings()
    path: Path | None = None
    """The file that this was read from, to be read again on SIGHUP; not a setting."""

    @property
    def data_dir(self) -> Path:
        """The folder of database, secrets and logs."""
        return Path(self.server.data_dir)

    def secrets(self) -> list[str]:
        """Every secret text that the configuration holds, for the logs to know what to hide."""
        keys = [part for entry in (*self.auth.api_keys, *self.auth.enrolment_keys) for part in (entry, entry.partition(":")[2])]
        password = urlsplit(self.storage.url).password or ""
        ours = self.auth.token_secret, self.cloudflare.app_secret, self.media.turn_secret
        return [secret for secret in (*ours, password, unquote(password), *keys) if secret]

    def __repr__(self) -> str:
        return f"Config(server={self.server.host}:{self.server.port}, data_dir={self.server.data_dir!r})"


def sections() -> Mapping[str, type[msgspec.Struct]]:
    """The class of each section, in the order of `config.toml`."""
    return {field.name: field.type for field in msgspec.structs.fields(Config) if field.name != "path"}


def fields_of(section: type[msgspec.Struct]) -> Mapping[str, FieldInfo]:
    """The keys of one section."""
    return {field.name: field for field in msgspec.structs.fields(section)}


def load_config(path: Path | None, environ: Mapping[str, str] | None = None) -> Config:
    """The settings of file `path` (None: defaults alone) with the environment above it. Raises ConfigError with every problem there is."""
    known: Known = {name: fields_of(section) for name, section in sections().items()}
    given, problems = read_file(path, known) if path is not None else ({}, [])
    above, more_problems = read_environment(os.environ if environ is None else environ, known)
    given |= above
    problems += more_problems
    values, wrong = _convert(given)
    problems += wrong
    _take_seed_rate(values)
    built: dict[str, Any] = {}
    for name, section in sections().items():
        try:
            built[name] = section(**{key: value for (home, key), value in values.items() if home == name})
        except ValueError as error:  # what the section itself knows of its keys together
            problems.append(f"[{name}]: {error}")
    if problems:
        raise ConfigError(problems)
    return Config(**built, path=path)


def _take_seed_rate(values: dict[tuple[str, str], Any]) -> None:
    """S-50 has one rate: it is the rate of the class `control`, unless [limits] gives that (CONTRACT.md §8)."""
    if ("security", "max_messages_per_minute") in values:
        values.setdefault(("limits", "control_per_min"), values["security", "max_messages_per_minute"])


def _convert(given: Settings) -> tuple[dict[tuple[str, str], Any], list[str]]:
    values: dict[tuple[str, str], Any] = {}
    problems: list[str] = []
    fields = {name: fields_of(section) for name, section in sections().items()}
    for (section, key), setting in given.items():
        name = f"{section}.{key}"
        try:
            values[section, key] = read_value(name, setting, fields[section][key].type, is_secret=name in SECRETS)
        except ConfigError as error:
            problems += error.problems
    return values, problems
