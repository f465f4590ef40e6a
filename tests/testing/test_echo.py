"""The echo server: what conformance suites and benches run against."""

import pytest
import trio

from signal_gateway.testing.client import LinkClosed, open_client
from signal_gateway.testing.echo import serve

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("pump", ["epoll", "task"])
async def test_whatever_comes_goes_back(pump: str, nursery: trio.Nursery):
    port = await nursery.start(serve, 0, pump, 16 * 1_048_576)
    async with open_client(f"ws://127.0.0.1:{port}/any/path?x=y") as link:
        for message in ("", "hello", b"\x00\xff", "ç" * 1000, b"x" * 65_536, b"y" * 1_500_000, "z" * 200_000):
            await link.send(message)
            assert await link.receive(20) == message
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("pump", ["epoll", "task"])
async def test_a_message_over_the_limit_is_1009_and_the_next_link_is_served(pump: str, nursery: trio.Nursery):
    port = await nursery.start(serve, 0, pump, 1000)
    async with open_client(f"ws://127.0.0.1:{port}/") as link:
        await link.send(b"x" * 1001)
        with pytest.raises(LinkClosed) as closed:
            await link.receive(20)
        assert closed.value.code == 1009
    async with open_client(f"ws://127.0.0.1:{port}/") as link:
        await link.send("fine")
        assert await link.receive(20) == "fine"
    nursery.cancel_scope.cancel()
