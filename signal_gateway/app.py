"""The wiring: every part made once, by its constructor, and the order in which the stages live and die (DESIGN.md §3)."""

import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random

import trio

from signal_gateway.api.application import make_application
from signal_gateway.api.desk import Desk
from signal_gateway.api.server import ApiServer
from signal_gateway.bridges.cloudflare import CloudflareMedia, cloudflare_media
from signal_gateway.bus.local import Bus, LocalBus
from signal_gateway.config import Config, ConfigError, load_config
from signal_gateway.config_safety import is_demo, is_loopback, token_secret
from signal_gateway.domain.ids import ordered_id, uuids_v4
from signal_gateway.domain.proxies import TrustedProxies
from signal_gateway.lifecycle import Loop, Stop, stage
from signal_gateway.observe.collector import QuietCollector, collector_watched, settle_collector
from signal_gateway.observe.health import Health
from signal_gateway.observe.logs import logger, logging_running, set_level
from signal_gateway.observe.loop_health import LoopHealth, tell_process
from signal_gateway.observe.metrics import Metrics
from signal_gateway.observe.nap import Nap
from signal_gateway.observe.plain_http import PlainHttp
from signal_gateway.services.alarms import Alarms
from signal_gateway.services.attempts import Attempts
from signal_gateway.services.authentication import Authentication
from signal_gateway.services.commands import Commands
from signal_gateway.services.credentials import Credentials
from signal_gateway.services.device_directory import DeviceDirectory
from signal_gateway.services.devices import Devices
from signal_gateway.services.dispatcher import Dispatcher
from signal_gateway.services.guests import Guests
from signal_gateway.services.limits import Limits, LimitsSettings
from signal_gateway.services.media_closings import MediaClosings
from signal_gateway.services.operators import Operators
from signal_gateway.services.placements import Placements
from signal_gateway.services.presence import Presence
from signal_gateway.services.registration import Registration
from signal_gateway.services.report_feed import ReportFeed
from signal_gateway.services.reports import Reports
from signal_gateway.services.retention import Retention
from signal_gateway.services.room_desk import RoomDesk
from signal_gateway.services.room_media import RoomMedia
from signal_gateway.services.rooms import Rooms
from signal_gateway.services.secret_file import read_or_make_secret
from signal_gateway.services.sim_rules import SimRulesOf
from signal_gateway.services.subscriber_ids import SubscriberIds
from signal_gateway.services.tokens import GuestSigner
from signal_gateway.services.turn import IceServers
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database, open_database
from signal_gateway.storage.migrate import migrate
from signal_gateway.websocket.admission import Admission
from signal_gateway.websocket.certificate import Certificate
from signal_gateway.websocket.commands import CommandSpeaker
from signal_gateway.websocket.connection import Bounds
from signal_gateway.websocket.door import Door
from signal_gateway.websocket.hub import Hub
from signal_gateway.websocket.lane import HAS_EPOLL, Lane
from signal_gateway.websocket.listener import Listener
from signal_gateway.websocket.media_rooms import MediaSpeaker
from signal_gateway.websocket.rooms import RoomSpeaker
from signal_gateway.websocket.sockets import open_listeners, port_of
from signal_gateway.websocket.turn import Turn

log = logger("server")

UNLIMITED = LimitsSettings(data_per_s=0, control_per_min=0, signal_per_min=0, frames_per_s=0)
"""What `security.rate_limit_enabled = false` makes of [limits]."""


def wall_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


new_uuid_bytes: Callable[[], bytes] = partial(next, uuids_v4(os.urandom))
"""A version 4 UUID in its 16 bytes. For the Trio thread alone."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a started server listens."""

    websocket: int
    metrics: int | None
    http: int | None
    """Of the operator's API."""


class Gateway:
    """All services and the door over one database and one clock: what the server runs, and what a simulated world runs, too."""

    def __init__(
        self,
        config: Config,
        database: Database,
        writer: BatchWriter,
        bus: Bus,
        metrics: Metrics,
        pepper: bytes,
        token_secret: str,
        wall_ms: Callable[[], int] = wall_ms,
        new_uuid_bytes: Callable[[], bytes] = new_uuid_bytes,
    ) -> None:
        auth, security, subscriber_ids = config.auth, config.security, SubscriberIds(pepper)
        attempts = _attempts_of(config, writer, metrics, wall_ms)

        def new_id() -> str:
            return ordered_id(new_uuid_bytes(), wall_ms())

        self.credentials = Credentials(database, bus, pepper, wall_ms, auth.api_keys, auth.enrolment_keys)
        self.limits = Limits(config.limits if security.rate_limit_enabled else UNLIMITED, metrics)
        self.presence = Presence(database, writer, bus, config.presence, metrics, wall_ms)
        self.reports = Reports(writer, bus, subscriber_ids, config.reports, metrics)
        self.hub = Hub(bus, metrics)
        self.directory = DeviceDirectory(database, bus, config.phones)
        self.placements = Placements(writer, bus, self.directory, wall_ms)
        rules, told = SimRulesOf(config.commands), self.presence.sims_told
        self.dispatcher = Dispatcher(database, writer, bus, self.directory, config.commands, rules, told, metrics, wall_ms)
        self.commands = Commands(database, writer, self.directory, self.dispatcher, config.commands, metrics, pepper, wall_ms, new_id)
        self.alarms = Alarms(database, writer, bus, self.directory, config.alarms, metrics, wall_ms)
        self.operators = Operators(database, bus, self.credentials, attempts, metrics, token_secret, wall_ms, config.auth.operators_kept)
        keys = self.credentials, self.operators, attempts
        self.devices = Devices(database, writer, bus, self.presence, self.credentials, self.dispatcher.endings, config.phones, wall_ms)
        self.feed = ReportFeed(database, writer, bus, config.feed, metrics)
        self.retention = Retention(writer, config.retention, metrics, wall_ms)
        self.ice_servers = IceServers(config.media, config.media.stun_url, wall_ms)
        self.rooms = Rooms(database, writer, bus, config.rooms, metrics, wall_ms, new_id)
        self.guests = Guests(GuestSigner(token_secret), self.operators.is_revoked, wall_ms)
        self.room_desk = RoomDesk(self.rooms, self.guests, self.directory, database, writer, wall_ms, config.rooms.guest_token_s)
        self.media, self.room_media = _media_of(config, self.rooms, bus, metrics, wall_ms, new_uuid_bytes)
        self.speakers = CommandSpeaker(self.hub, bus, metrics), RoomSpeaker(self.hub, bus, self.rooms), MediaSpeaker(bus)
        self.authentication = Authentication(database, writer, bus, *keys, subscriber_ids, self.directory, wall_ms, auth.device_key_days)
        self.registration = Registration(database, writer, bus, *keys, self.guests, auth.registration, wall_ms)
        turn = Turn(writer.has_room, metrics)
        self.lane = Lane(metrics, turn) if config.server.pump == "epoll" and HAS_EPOLL else None
        self.door = self._door(config, turn, metrics, subscriber_ids, writer.wait_for_room, wall_ms, new_id, new_uuid_bytes)
        self.listener = _listener_of(config, self.door)

    def _door(
        self,
        config: Config,
        turn: Turn,
        metrics: Metrics,
        subscriber_ids: SubscriberIds,
        wait_for_room: Callable[[], Awaitable[None]],
        wall_ms: Callable[[], int],
        new_id: Callable[[], str],
        new_uuid_bytes: Callable[[], bytes],
    ) -> Door:
        """What every link is given."""
        return Door(
            server=config.server,
            session=config.session,
            security=config.security,
            link=config.link,
            bounds=_bounds_of(config, self.limits),
            auth_deadline_s=config.auth.deadline_s,
            token_warning_s=config.auth.token_warning_s,
            metrics=metrics,
            hub=self.hub,
            turn=turn,
            lane=self.lane,
            admission=Admission(config.security, config.server.max_connections, metrics),
            limits=self.limits,
            authentication=self.authentication,
            registration=self.registration,
            presence=self.presence,
            placements=self.placements,
            reports=self.reports,
            dispatcher=self.dispatcher,
            subscriber_ids=subscriber_ids,
            rooms=self.rooms,
            room_media=self.room_media,
            ice_servers=self.ice_servers,
            wait_for_room=wait_for_room,
            wall_ms=wall_ms,
            new_id=new_id,
            new_uuid_bytes=new_uuid_bytes,
        )

    @property
    def service_loops(self) -> tuple[Loop, ...]:
        """The loops of the services' stage. What a crash left open is closed before the first link comes."""
        first = self.presence.run, self.credentials.run, self.operators.run, self.limits.run
        return *first, self.commands.run, self.dispatcher.run, self.alarms.run, self.rooms.run, self.retention.run

    @property
    def door_loops(self) -> tuple[Loop, ...]:
        """The loops of the doors' stage: they end after the last link."""
        return (self.hub.run,) if self.lane is None else (self.hub.run, self.lane.run)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """All stages between storage and links. What uses a bridge has something to say over it at the end, and ends before it."""
        bridges: tuple[Loop, ...] = () if self.media is None else (self.media.run,)
        users: tuple[Loop, ...] = () if self.room_media is None else (self.room_media.run,)
        async with stage(*self.service_loops), stage(*bridges), stage(*users), stage(*self.door_loops):
            yield


async def serve(config: Config, tell_started: Callable[[Ports], None]) -> bool:
    """Run the server until SIGTERM or SIGINT. `tell_started` hears its ports. Returns whether all links were told
    goodbye and all rows were written.

    Raises OSError when a port cannot be listened on, StorageUnusable when the database cannot be used, StorageBroken when the disk fails
    under it, SecretFileRefused when a secret is readable by others.
    """
    metrics, health = Metrics(), Health()
    certificate = Certificate(config.server) if config.server.tls_enabled else None
    stop = Stop(partial(reload, config, certificate))
    is_accepting = False
    health.add("listener", lambda: None if is_accepting else "not accepting connections")
    tell_process(metrics)
    pepper, secret = read_or_make_secret(config.data_dir / "secrets" / "pepper"), token_secret(config)
    with logging_running(config.logging, config.data_dir, metrics, config.secrets()), collector_watched(metrics), _failure_logged():
        async with trio.open_nursery() as root:
            await root.start(stop.watch_signals, root.cancel_scope)
            metrics_port: int | None = None
            if config.metrics.enabled:
                metrics_port = await root.start(PlainHttp(config.metrics, metrics, health).run)
            await root.start(LoopHealth(metrics).run)
            await root.start(QuietCollector(metrics.messages).run)
            async with storage_running(config, metrics, health) as (database, writer):
                gateway = Gateway(config, database, writer, LocalBus(metrics), metrics, pepper, secret)
                if gateway.media is not None:
                    health.add("media", gateway.media.trouble, decides=False)
                async with gateway.running(), trio.open_nursery() as links:
                    listeners = await open_listeners(config.server, certificate and certificate.context)
                    api = operator_door(config, gateway, metrics, health, port_of(listeners), certificate)
                    http_port = await links.start(api.run) if config.http.enabled else None
                    async with stage(partial(gateway.listener.serve, listeners, links)):
                        settle_collector()
                        is_accepting = stop.is_serving = True
                        ports = Ports(port_of(listeners), metrics_port, http_port)
                        tell_started(ports)
                        log.info("serving", port=ports.websocket, metrics_port=ports.metrics, http_port=ports.http)
                        await stop.asked.wait()
                        health.draining = True
                        is_accepting = False
                    await _say_goodbye(config, gateway, api)
                    links.cancel_scope.cancel()
            log.info("stopped")
            root.cancel_scope.cancel()
    return not stop.at_once and not writer.rows_lost


def operator_door(
    config: Config, gateway: Gateway, metrics: Metrics, health: Health, websocket_port: int, certificate: Certificate | None
) -> ApiServer:
    """The operator's HTTP door in front of a gateway's services."""
    desk = Desk(
        settings=config.http,
        operators=gateway.operators,
        devices=gateway.devices,
        commands=gateway.commands,
        alarms=gateway.alarms,
        feed=gateway.feed,
        credentials=gateway.credentials,
        rooms=gateway.room_desk,
        health=health,
        metrics=metrics,
        phone_settings=config.phones,
        proxies=TrustedProxies(config.server.trusted_proxies),
        public_url=config.server.public_url,
        websocket_port=lambda: websocket_port,
        speaks_tls=certificate is not None,
        token_expiry_s=config.auth.token_expiry,
        is_demo=is_demo(config),
        page_rooms_per_min=config.rooms.page_rooms_per_min,
        wall_ms=gateway.door.wall_ms,
    )
    return ApiServer(make_application(desk), config.http, metrics, certificate and certificate.context)


async def _say_goodbye(config: Config, gateway: Gateway, api: ApiServer) -> None:
    """Both doors let go of those who are here, each at its own pace."""
    gateway.feed.close()
    async with trio.open_nursery() as doors:
        doors.start_soon(gateway.hub.drain, config.server.drain_s, config.link.close_s)
        doors.start_soon(api.drain)


@asynccontextmanager
async def storage_running(config: Config, metrics: Metrics, health: Health) -> AsyncGenerator[tuple[Database, BatchWriter], None]:
    """The stage of storage: an up-to-date database and its writer, which ends by emptying its queue."""
    async with open_database(config.storage, config.data_dir, metrics) as database:
        await migrate(database)
        writer = BatchWriter(database, config.storage, metrics)
        health.add("storage", lambda: writer.trouble)
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            try:
                with Nap(lambda: database.jobs_outstanding, lambda: database.jobs_answered, metrics).installed():
                    yield database, writer
            finally:
                writer.close()


@contextmanager
def _failure_logged() -> Generator[None]:
    """What ends the server is in its log, too, for whoever has no terminal of it."""
    try:
        yield
    except Exception as error:
        log.critical("the server failed", error=type(error).__name__, exc_info=not isinstance(error, OSError))
        raise


def _media_of(
    config: Config, rooms: Rooms, bus: Bus, metrics: Metrics, wall_ms: Callable[[], int], new_uuid_bytes: Callable[[], bytes]
) -> tuple[CloudflareMedia, RoomMedia] | tuple[None, None]:
    settings = config.cloudflare
    if config.media.mode == "p2p":
        return None, None
    media = cloudflare_media(config.media, settings, metrics, wall_ms, Random(new_uuid_bytes()))
    closings = MediaClosings(media, settings.closings_max, settings.goodbye_s, metrics)
    return media, RoomMedia(media, rooms, bus, closings, metrics, falls_back=settings.fall_back)


def _attempts_of(config: Config, writer: BatchWriter, metrics: Metrics, wall_ms: Callable[[], int]) -> Attempts:
    auth, security = config.auth, config.security
    return Attempts(
        writer,
        metrics,
        wall_ms,
        per_id_per_minute=auth.max_failed_per_id_per_minute,
        per_address_per_minute=security.max_failed_auth_per_ip_per_minute,
        offences_per_minute=security.max_offences_per_minute,
        entries_max=auth.failed_attempts_kept,
        audited_refusals_per_s=auth.audited_refusals_per_s,
    )


def _listener_of(config: Config, door: Door) -> Listener:
    own_ports = frozenset({config.server.port, config.http.port, config.metrics.port})
    believes_any_origin = is_loopback(config.server.host) or config.server.insecure
    return Listener(door, config.handshake, own_ports, believes_any_origin)


def _bounds_of(config: Config, limits: Limits) -> Bounds:
    return Bounds(
        outbox=config.outbox,
        frames=limits.frames,
        fragments_max=config.link.fragments_max,
        message_bytes_max=config.server.max_message_size,
        read_bytes_max=config.server.read_buffer_size,
        close_s=config.link.close_s,
        close_bytes_max=config.link.close_bytes_max,
    )


def reload(config: Config, certificate: Certificate | None) -> None:
    """SIGHUP: the certificate and the log level, read again; what is wrong with them is logged and the old ones stay."""
    try:
        if certificate is not None:
            certificate.read_again()
        if config.path is not None:
            set_level(load_config(config.path).logging.level)
    except (OSError, ConfigError) as error:  # of OpenSSL, too
        log.error("reload failed: what held before holds on", error=str(error))  # noqa: TRY400 - a sentence for the operator
