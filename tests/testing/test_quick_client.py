"""The quick client against trio-websocket's server: what one says the other hears."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, cast

import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from signal_gateway.testing.client import LinkClosed, NoLink
from signal_gateway.testing.echo import serve
from signal_gateway.testing.faults import FaultPlan, Network
from signal_gateway.testing.quick_client import QuickClient, dial_quickly, open_quick_client

Server = trio_websocket.WebSocketConnection


@asynccontextmanager
async def linked(
    nursery: trio.Nursery, plan: FaultPlan | None = None, noted: list[tuple[str, Any]] | None = None
) -> AsyncGenerator[tuple[QuickClient, Server, Network]]:
    """A quick client, and the library's server at the other end."""
    network = Network(plan or FaultPlan(), Random(1))
    here, there = network.connect()
    servers: list[Server] = []

    async def accept() -> None:
        proposal = await trio_websocket.wrap_server_stream(nursery, cast("Any", there))
        servers.append(await proposal.accept())

    nursery.start_soon(accept)

    def note(what: str, about: Any) -> None:
        if noted is not None:
            noted.append((what, about))

    async with open_quick_client(here, "/ws", {"X-Name": "value"}, Random(2), note=note) as client:
        yield client, servers[0], network


@pytest.mark.parametrize("pieces", [FaultPlan(), FaultPlan(split_chance=1.0, piece_bytes=(1, 3_000))], ids=["whole", "in pieces"])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
async def test_messages_of_every_length_are_heard_as_they_were_said(
    autojump_clock: MockClock, nursery: trio.Nursery, size: int, pieces: FaultPlan
):
    async with linked(nursery, pieces) as (client, server, _):
        for message in ("ç" * (size // 2), bytes(range(256)) * (size // 256) + bytes(size % 256)):
            await client.send(message)
            assert await server.get_message() == message
            nursery.start_soon(server.send_message, message)
            assert await client.receive(10) == message


async def test_a_ping_is_answered_while_it_waits_for_messages(autojump_clock: MockClock, nursery: trio.Nursery):
    ponged = trio.Event()

    async def ping(server: Server) -> None:
        await server.ping(b"are you there")
        ponged.set()

    async with linked(nursery) as (client, server, _):
        nursery.start_soon(ping, server)
        with pytest.raises(trio.TooSlowError):
            await client.receive(5)
        assert ponged.is_set()


async def test_the_code_of_the_server_s_close_is_told_to_whoever_asks(autojump_clock: MockClock, nursery: trio.Nursery):
    noted: list[tuple[str, Any]] = []
    async with linked(nursery, noted=noted) as (client, server, _):
        nursery.start_soon(server.aclose, 4500, "replaced")
        for ask in (client.receive(5), client.receive(5), client.send("x")):
            with pytest.raises(LinkClosed, match="4500 replaced") as caught:
                await ask
            assert caught.value.code == 4500
    assert noted == [("closed", 4500)]


@pytest.mark.parametrize("fault", ["reset", "cut"])
async def test_a_link_that_breaks_is_told_as_1006(autojump_clock: MockClock, nursery: trio.Nursery, fault: Any):
    async with linked(nursery) as (client, _, network):
        network.strike(1, fault)
        with pytest.raises(LinkClosed) as caught:
            await client.receive(5)
        assert caught.value.code == 1006


async def test_it_says_goodbye_at_its_end(autojump_clock: MockClock, nursery: trio.Nursery):
    async with linked(nursery) as (_, server, _):
        pass
    assert server.closed is not None
    assert server.closed.code == 1000


async def test_a_server_that_does_not_answer_gives_no_link(autojump_clock: MockClock):
    here, _ = Network().connect()
    with pytest.raises(NoLink, match="within 5 s"):
        async with open_quick_client(here, "/ws", {}, Random(1)):
            pass


async def test_a_refusal_is_told_with_its_status(autojump_clock: MockClock, nursery: trio.Nursery):
    here, there = Network().connect()
    nursery.start_soon(there.send_all, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(NoLink, match="refused: 401") as caught:
        async with open_quick_client(here, "/ws", {}, Random(1)):
            pass
    assert caught.value.status == 401


@pytest.mark.parametrize(("field", "seconds"), [("Retry-After: 7", 7.0), ("retry-after:  12 ", 12.0), ("Retry-After: soon", None)])
async def test_a_refusal_that_asks_to_come_back_says_when(
    autojump_clock: MockClock, nursery: trio.Nursery, field: str, seconds: float | None
):
    here, there = Network().connect()
    nursery.start_soon(there.send_all, f"HTTP/1.1 429 Too Many Requests\r\n{field}\r\n\r\n".encode())
    with pytest.raises(NoLink) as caught:
        async with open_quick_client(here, "/ws", {}, Random(1)):
            pass
    assert (caught.value.status, caught.value.retry_after_s) == (429, seconds)


async def test_it_dials_a_server_by_its_url():
    async with trio.open_nursery() as servers:
        port = await servers.start(serve, 0, "epoll", 1000)
        async with dial_quickly(f"ws://127.0.0.1:{port}/any?x=y", {}, Random(1)) as client:
            await client.send("hello")
            assert await client.receive(5) == "hello"
        servers.cancel_scope.cancel()
    with pytest.raises(NoLink, match="cannot be reached"):
        async with dial_quickly(f"ws://127.0.0.1:{port}/any?api_key=hush", {}, Random(1)):
            pass
    with pytest.raises(ValueError, match="no URL of a WebSocket"):
        async with dial_quickly("http://127.0.0.1", {}, Random(1)):
            pass


async def test_the_same_seed_sends_the_same_bytes(autojump_clock: MockClock, nursery: trio.Nursery):
    async def bytes_of(seed: int) -> bytes:
        here, there = Network().connect()
        nursery.start_soon(there.send_all, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        async with open_quick_client(here, "/ws", {}, Random(seed)) as client:
            await client.send("hello")
            return await there.receive_some()

    assert await bytes_of(1) == await bytes_of(1) != await bytes_of(2)
