"""A whole gateway in memory: its door over memory streams, its SQL inline, its time virtual. One seed replays a run (RELIABILITY).

    config = Config(auth=AuthSettings(enrolment_keys=("demo:demo-enrolment-key",)))
    async with open_world(config) as world:
        phone = world.phone(1)
        await world.links.start(phone.live)
        await phone.report("sms_message", {...})

Under `autojump_clock` an hour passes in no time. Nothing in here uses a thread.
"""

import socket
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from random import Random
from typing import Any, Literal

import trio

from signal_gateway.app import Gateway
from signal_gateway.config import Config
from signal_gateway.domain.ids import uuid_v4
from signal_gateway.observe.logs import lines_told_to
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.inline import Image
from signal_gateway.testing.agent import SimulatedAgent
from signal_gateway.testing.behaviour import FLAWLESS, Behaviour
from signal_gateway.testing.client import Client, NoLink, Note, open_client_over
from signal_gateway.testing.determinism import drawn_from
from signal_gateway.testing.faults import PERFECT, FaultPlan, FaultyStream, Network
from signal_gateway.testing.history import GATEWAY, LINK, NETWORK, History, NotingBus
from signal_gateway.testing.localhost import client_context, server_context
from signal_gateway.testing.numbers import FleetNumbers
from signal_gateway.testing.phone import SimulatedPhone, invent_phone
from signal_gateway.testing.quick_client import open_quick_client
from signal_gateway.websocket.tls import TlsStream

WORLD_BEGINS_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: the wall clock at the beginning of a history, and of a world that has its own."""
PEPPER = bytes(range(32))
TOKEN_SECRET = PEPPER.hex()
NOBODY = "somebody"
"""Who a bare client is in the history."""

Transport = Literal["memory", "sockets", "tls"]


class World:
    """One gateway and whoever connects to it. Made by `open_world`."""

    links: trio.Nursery
    """Where connections and simulated devices live: they end before the loops of the services, as in the real one."""

    def __init__(
        self,
        config: Config,
        database: InlineDatabase,
        seed: int,
        transport: Transport,
        network: Network,
        history: History,
    ) -> None:
        # A restart on the same database is another life: its sessions must not have the ids of the one before.
        self.random = Random(f"{seed} after {database.commits} commits")
        self.history = history
        """What happened, in order."""
        self.network = network
        """What connections of memory pass through; its `plan` may be changed at any time."""
        self.metrics = Metrics()
        self.bus = NotingBus(self.metrics, history)
        self.database = database
        self.writer = BatchWriter(database, config.storage, self.metrics)
        self.config = config
        self.numbers = FleetNumbers()
        self.has_crashed = False
        self._transport = transport
        self._tls = (server_context(), client_context()) if transport == "tls" else None
        self.gateway = Gateway(
            config,
            database,
            self.writer,
            self.bus,
            self.metrics,
            PEPPER,
            TOKEN_SECRET,
            self.wall_ms,
            lambda: uuid_v4(self.random.randbytes(16)).bytes,
        )
        self.gateway.credentials.random_bytes = self.random.randbytes
        self.gateway.operators.random_bytes = self.random.randbytes
        self.gateway.guests.random_bytes = self.random.randbytes
        self.gateway.dispatcher.reports.random = self.gateway.dispatcher.sweeps.random = Random(self.random.random())
        self.gateway.dispatcher.pace.cpu_s = lambda: 0.0  # real time would make each run another one

    def wall_ms(self) -> int:
        """Milliseconds since 1970 of this world's clock."""
        return WORLD_BEGINS_MS + round(self.history.now_s() * 1000)

    def connect(self) -> trio.abc.Stream:
        """The client's end of a new connection to the door, over what this world has for a wire."""
        if self._transport == "memory":
            here, there = self.network.connect()
            self.links.start_soon(self._serve, there.number, there)
            return here
        our_socket, their_socket = socket_pair()
        if self._tls is None:
            self.links.start_soon(self.gateway.listener.serve_connection, their_socket)
            return our_socket
        servers, clients = self._tls
        self.links.start_soon(self.gateway.listener.serve_connection, TlsStream(their_socket, servers))
        return trio.SSLStream(our_socket, clients, server_hostname="localhost", https_compatible=True)

    @asynccontextmanager
    async def dial(
        self, resource: str = "/ws", headers: Mapping[str, str] | None = None, who: str = NOBODY
    ) -> AsyncGenerator[Client, None]:
        """A WebSocket client on a new connection; `who` it is in the history. Raises NoLink when it is refused."""
        stream = self.connect()
        with self._told(stream, who) as note:
            async with open_client_over(stream, resource, headers, note=note) as client:
                yield client

    @asynccontextmanager
    async def dial_quickly(self, who: str, resource: str, headers: Mapping[str, str]) -> AsyncGenerator[Client, None]:
        """The same for simulated devices, through a client that costs little and takes its chance from the world's seed."""
        stream = self.connect()
        with self._told(stream, who) as note:
            random = Random(self.random.random())
            async with open_quick_client(stream, resource, headers, random, note=note) as client:
                yield client

    def phone(self, number: int = 1, api_key: str = "demo-enrolment-key", behaviour: Behaviour = FLAWLESS) -> SimulatedPhone:
        """A phone of this world; it dials when it is told to `live`. What commands do is noted in the history."""
        random = Random(self.random.random())
        profile = invent_phone(number, random)
        dial = partial(self.dial_quickly, profile.device_id)
        tell = self.history.note_effect
        return SimulatedPhone(profile, api_key, dial, self.numbers, random, wall_ms=self.wall_ms, behaviour=behaviour, tell=tell)

    def agent(self, client_id: str = "test_client_1", token: str = "test_token_1", registers: bool = False) -> SimulatedAgent:  # noqa: S107 - demo
        """An agent of this world."""
        dial = partial(self.dial_quickly, client_id)
        return SimulatedAgent(client_id, token, dial, self.numbers, Random(self.random.random()), registers=registers)

    def crash(self) -> Image:
        """The power fails now. Returns what the disk holds: give it to the next world, as `InlineDatabase(image=…)`, and leave this one.

        Its connections break; what it still does until it is left reaches nobody, and no history.
        """
        self.has_crashed = True
        self.history.note(NETWORK, "crash")
        image = self.database.image()
        self.network.strike_all("reset")
        self.history.hears_gateway = False
        return image

    @contextmanager
    def _told(self, stream: trio.abc.Stream, who: str) -> Generator[Note]:
        """Note the life of one connection."""
        number = stream.number if isinstance(stream, FaultyStream) else 0

        def note(what: str, about: Any = None) -> None:
            self.history.note(who, what, about, number)

        note("dialled")
        try:
            yield note
        except NoLink as refused:
            note("refused", refused.status)
            raise
        finally:
            note("ended")

    async def _serve(self, number: int, stream: trio.abc.Stream) -> None:
        LINK.set(number)
        await self.gateway.listener.serve_connection(stream)


@asynccontextmanager
async def open_world(
    config: Config | None = None,
    seed: int = 0,
    database: InlineDatabase | None = None,
    transport: Transport = "memory",
    faults: FaultPlan = PERFECT,
    network: Network | None = None,
    history: History | None = None,
) -> AsyncGenerator[World, None]:
    """A gateway that runs as long as the context lasts, with every stage of the real one. A `database` of before is a restart.

    `transport` is what connections are: "memory", or pairs of "sockets", plain or with "tls" on them, so that the lane and its system calls
    are the real ones, too. Only over memory does the same seed give the same history, and can `faults` make the network a bad one. A
    `network` and a `history` that are given go on from world to world.
    """
    if transport != "memory" and (faults is not PERFECT or network is not None):
        raise ValueError("faults are drawn for connections of memory")
    kept = database or InlineDatabase()
    told = History() if history is None else history
    with ExitStack() as taps:
        taps.enter_context(drawn_from(seed))
        taps.callback(kept.tell_commits(told.note_commit))
        taps.enter_context(lines_told_to(told.note_line))
        told.hears_gateway = True
        told.note(GATEWAY, "begun", kept.commits)
        net = network or Network(faults, Random(f"network of {seed}"), told.note_fault)
        world = World(config or Config(), kept, seed, transport, net, told)
        async with trio.open_nursery() as storage:
            await storage.start(world.writer.run)
            gateway = world.gateway
            async with gateway.running(), trio.open_nursery() as links:
                world.links = links
                try:
                    yield world
                finally:
                    told.note(GATEWAY, "ending")
                    links.cancel_scope.cancel()
            world.writer.close()
        told.note_metrics(world.metrics)
    if database is None:
        kept.close()


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Both ends of a TCP connection on loopback; trio-websocket knows nothing of Unix sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours)), trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
