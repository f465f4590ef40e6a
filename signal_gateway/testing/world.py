"""A whole gateway in memory: its door over memory streams, its SQL inline, its time virtual. One seed replays a run (RELIABILITY).

    config = Config(auth=AuthSettings(enrolment_keys=("demo:demo-enrolment-key",)))
    async with open_world(config) as world:
        phone = world.phone(1)
        await world.links.start(phone.live)
        await phone.report("sms_message", {...})

Under `autojump_clock` an hour passes in no time. Nothing in here uses a thread.
"""

import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Literal
from uuid import UUID

import trio
from trio.testing import memory_stream_pair

from signal_gateway.app import Gateway
from signal_gateway.bus.local import LocalBus
from signal_gateway.config import Config
from signal_gateway.domain.ids import uuid_v4
from signal_gateway.lifecycle import stage
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.testing.agent import SimulatedAgent
from signal_gateway.testing.client import Client, open_client_over
from signal_gateway.testing.localhost import client_context, server_context
from signal_gateway.testing.numbers import FleetNumbers
from signal_gateway.testing.phone import SimulatedPhone, invent_phone
from signal_gateway.websocket.tls import TlsStream

Transport = Literal["memory", "sockets", "tls"]
WORLD_BEGINS_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: the wall clock of every world at its beginning."""
PEPPER = bytes(range(32))


class World:
    """One gateway and whoever connects to it. Made by `open_world`."""

    def __init__(self, config: Config, database: InlineDatabase, links: trio.Nursery, seed: int, transport: Transport) -> None:
        # A restart on the same database is another life: its sessions must not have the ids of the one before.
        self.random = Random(f"{seed} after {database.commits} commits")
        self.links = links
        """Where connections and simulated devices live."""
        self.metrics = Metrics()
        self.bus = LocalBus(self.metrics)
        self.database = database
        self.writer = BatchWriter(database, config.storage, self.metrics)
        self.config = config
        self.numbers = FleetNumbers()
        self._transport = transport
        self._tls = (server_context(), client_context()) if transport == "tls" else None
        self._begun_at = trio.current_time()
        self.gateway = Gateway(config, database, self.writer, self.bus, self.metrics, PEPPER, self.wall_ms, self._new_uuid)

    def wall_ms(self) -> int:
        """Milliseconds since 1970 of this world's clock."""
        return WORLD_BEGINS_MS + round((trio.current_time() - self._begun_at) * 1000)

    def connect(self) -> trio.abc.Stream:
        """The client's end of a new connection to the door, over what this world has for a wire."""
        if self._transport == "memory":
            ours, theirs = memory_stream_pair()
            self.links.start_soon(self.gateway.listener.serve_connection, theirs)
            return ours
        our_socket, their_socket = socket_pair()
        if self._tls is None:
            self.links.start_soon(self.gateway.listener.serve_connection, their_socket)
            return our_socket
        servers, clients = self._tls
        self.links.start_soon(self.gateway.listener.serve_connection, TlsStream(their_socket, servers))
        return trio.SSLStream(our_socket, clients, server_hostname="localhost", https_compatible=True)

    @asynccontextmanager
    async def dial(self, resource: str = "/ws", headers: Mapping[str, str] | None = None) -> AsyncGenerator[Client, None]:
        """A WebSocket client on a new connection. Raises NoLink when it is refused."""
        async with open_client_over(self.connect(), resource, headers) as client:
            yield client

    def phone(self, number: int = 1, api_key: str = "demo-enrolment-key") -> SimulatedPhone:
        """A phone of this world; it dials when it is told to `live`."""
        random = Random(self.random.random())
        return SimulatedPhone(invent_phone(number, random), api_key, self.dial, self.numbers, random)

    def agent(self, client_id: str = "test_client_1", token: str = "test_token_1", registers: bool = False) -> SimulatedAgent:  # noqa: S107 - demo
        """An agent of this world."""
        return SimulatedAgent(client_id, token, self.dial, self.numbers, Random(self.random.random()), registers=registers)

    def _new_uuid(self) -> UUID:
        return uuid_v4(self.random.randbytes(16))


@asynccontextmanager
async def open_world(
    config: Config | None = None, seed: int = 0, database: InlineDatabase | None = None, transport: Transport = "memory"
) -> AsyncGenerator[World, None]:
    """A gateway that runs as long as the context lasts, with every stage of the real one. A `database` of before is a restart.

    `transport` is what connections are: "memory", or pairs of "sockets", plain or with "tls" on them, so that the lane and its system calls
    are the real ones, too.
    """
    config = config or Config()
    kept = database or InlineDatabase()
    async with trio.open_nursery() as storage:
        async with trio.open_nursery() as links:
            world = World(config, kept, links, seed, transport)
            await storage.start(world.writer.run)
            gateway = world.gateway
            async with stage(*gateway.service_loops), stage(*gateway.door_loops):
                try:
                    yield world
                finally:
                    links.cancel_scope.cancel()
        world.writer.close()
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
