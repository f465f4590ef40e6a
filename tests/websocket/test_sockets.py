"""The listening socket: whoever waits is accepted at once, and what goes wrong with one connection stays with it."""

import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
import trio

from signal_gateway.websocket.server_settings import ServerSettings
from signal_gateway.websocket.sockets import ACCEPTS_MAX, GONE_BEFORE_ACCEPTED, EagerListener, open_listeners, port_of


@pytest.fixture
async def listener() -> AsyncIterator[EagerListener]:
    (opened,) = await open_listeners(ServerSettings(port=0), None)
    assert isinstance(opened, EagerListener)
    async with opened:
        yield opened


def connect(clients: ExitStack, listener: EagerListener) -> socket.socket:
    return clients.enter_context(socket.create_connection(("127.0.0.1", port_of([listener]))))


async def test_all_who_wait_are_accepted_in_one_pass_of_the_loop(listener: EagerListener):
    with ExitStack() as clients:
        ports = [connect(clients, listener).getsockname()[1] for _ in range(ACCEPTS_MAX + 1)]
        accepted = [await listener.accept()]
        with trio.testing.assert_no_checkpoints():
            accepted += [await listener.accept() for _ in range(ACCEPTS_MAX - 1)]
        accepted.append(await listener.accept())
        assert [stream.socket.getpeername()[1] for stream in accepted] == ports
        for stream in accepted:
            assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await stream.aclose()


async def test_who_was_accepted_and_not_served_is_hung_up_on_at_the_end(listener: EagerListener):
    with ExitStack() as clients:
        first, second = connect(clients, listener), connect(clients, listener)
        stream = await listener.accept()
        await listener.aclose()
        second.settimeout(5)
        assert second.recv(1) == b""
        await stream.send_all(b"x")
        assert first.recv(1) == b"x"
        await stream.aclose()


class Failing:
    """A listening socket whose next calls of `accept` fail, one for each of `errors`; those that are 0 do not."""

    def __init__(self, inner: socket.socket, *errors: int) -> None:
        self._inner = inner
        self._errors = list(errors)

    def fileno(self) -> int:
        return self._inner.fileno()

    def close(self) -> None:
        self._inner.close()

    def accept(self) -> Any:
        if self._errors and (error := self._errors.pop(0)):
            raise OSError(error, os.strerror(error))
        return self._inner.accept()


@pytest.mark.parametrize("error", GONE_BEFORE_ACCEPTED, ids=errno.errorcode.get)
async def test_one_that_ended_in_the_queue_holds_nobody_up(listener: EagerListener, monkeypatch: pytest.MonkeyPatch, error: int):
    monkeypatch.setattr(listener, "_socket", Failing(listener._socket, error, error))
    with ExitStack() as clients:
        client = connect(clients, listener)
        stream = await listener.accept()
        assert stream.socket.getpeername() == client.getsockname()
        await stream.aclose()


async def test_what_stops_all_is_told_once_those_before_it_are_served(listener: EagerListener, monkeypatch: pytest.MonkeyPatch):
    """Without file descriptors, for example: whoever serves waits a little, and asks again."""
    with ExitStack() as clients:
        for _ in range(3):
            connect(clients, listener)
        monkeypatch.setattr(listener, "_socket", Failing(listener._socket, 0, errno.EMFILE, errno.EMFILE))
        await (await listener.accept()).aclose()
        with pytest.raises(OSError, match="Too many open files"):
            await listener.accept()
        for _ in range(2):
            await (await listener.accept()).aclose()
