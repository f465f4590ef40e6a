"""An echo server on the gateway's own handshake, stream, parser, outbox and pumps: for conformance suites and benches.

    python -m signal_gateway.testing.echo --port 9001 --pump epoll [--tls] [--max-message-size BYTES]

Any path, no authentication: whatever comes goes back. Only the links' own services are missing; the wire is the gateway's. With `--tls` it
shows the certificate `signal_gateway/testing/localhost.pem`, which clients must be told to trust.
"""

import argparse
import ssl
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from protocol.close_codes import CloseCode
from signal_gateway.domain.rate_limit import Rate
from signal_gateway.lifecycle import stage
from signal_gateway.observe.metrics import Metrics
from signal_gateway.testing.localhost import server_context
from signal_gateway.websocket.connection import Bounds, Connection
from signal_gateway.websocket.frame_parser import BINARY, TEXT, data_frame
from signal_gateway.websocket.handshake import check_upgrade, plain_answer, upgrade_answer
from signal_gateway.websocket.lane import HAS_EPOLL, Lane
from signal_gateway.websocket.listener import GONE
from signal_gateway.websocket.outbox import OutboxSettings
from signal_gateway.websocket.request_head import GoneAway, HandshakeSettings, Refused, Request, read_request
from signal_gateway.websocket.server_settings import ServerSettings
from signal_gateway.websocket.sockets import open_listeners, port_of
from signal_gateway.websocket.turn import Turn

MESSAGE_BYTES_MAX = 1_048_576
READ_BYTES_MAX = 65_536
CLOSE_S = 2.0
UNLIMITED = Rate(0.0, 0.0)


class EchoLink:
    """One connection that says what it hears."""

    def __init__(self, transport: trio.abc.Stream, request: Request, metrics: Metrics, turn: Turn, message_bytes_max: int) -> None:
        # A message may come back before its sender reads again: the outbox holds one, and what else is under way.
        bounds = Bounds(
            outbox=OutboxSettings(messages_max=100_000, bytes_max=4 * message_bytes_max + 1_048_576),
            frames=UNLIMITED,
            fragments_max=message_bytes_max,
            message_bytes_max=message_bytes_max,
            read_bytes_max=READ_BYTES_MAX,
            close_s=CLOSE_S,
            close_bytes_max=READ_BYTES_MAX,
        )
        self._connection = Connection(self, transport, upgrade_answer(request), request.rest, bounds, metrics, turn)
        self._outbox = self._connection.outbox
        self._connection.parser.limit_messages(message_bytes_max, "server.max_message_size")

    async def run(self, lane: Lane | None) -> None:
        """Echo until the link is closed."""
        try:
            async with trio.open_nursery() as nursery:
                await self._connection.serve(nursery, lane, _nothing)
        finally:
            self._connection.let_go()

    def hear_data(self, is_text: bool, payload: bytes) -> bool:
        """See Hearer."""
        self._outbox.put(data_frame(TEXT if is_text else BINARY, payload))
        return True

    def hear_late(self, is_text: bool, payload: bytes) -> Coroutine[Any, Any, None]:
        """See Hearer."""
        self.hear_data(is_text, payload)
        return self._outbox.drain()

    def hear_pong(self) -> None:
        """See Hearer."""

    def refuse_size(self, limit: str) -> None:
        """See Hearer."""
        self._connection.close(CloseCode.TOO_BIG, limit)

    def ended(self, code: int, reason: str) -> None:
        """See Hearer."""

    def too_slow(self, limit: str) -> None:
        """See Hearer."""
        self._connection.close(CloseCode.SLOW, limit)


async def serve_connection(transport: trio.abc.Stream, metrics: Metrics, turn: Turn, lane: Lane | None, message_bytes_max: int) -> None:
    """One connection, whatever becomes of it."""
    try:
        try:
            request = await read_request(transport, HandshakeSettings())
            check_upgrade(replace(request, path="/ws"))
        except Refused as refused:
            await transport.send_all(plain_answer(refused))
        except GoneAway:
            pass
        else:
            await EchoLink(transport, request, metrics, turn, message_bytes_max).run(lane)
    except* GONE:
        pass
    finally:
        await trio.aclose_forcefully(transport)


def _nothing() -> None:
    """An echo greets nobody."""


async def serve(
    port: int,
    pump: str,
    message_bytes_max: int,
    tls: ssl.SSLContext | None = None,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Echo on this port of loopback (0: any) until cancelled. Started with the port."""
    metrics = Metrics()
    turn = Turn(lambda: True, metrics)
    lane = Lane(metrics, turn) if pump == "epoll" and HAS_EPOLL else None
    async with stage(*((lane.run,) if lane is not None else ())), trio.open_nursery() as links:
        listeners = await open_listeners(ServerSettings(port=port), None if tls is None else lambda: tls)
        task_status.started(port_of(listeners))
        handler = partial(serve_connection, metrics=metrics, turn=turn, lane=lane, message_bytes_max=message_bytes_max)
        await trio.serve_listeners(handler, list(listeners), handler_nursery=links)


def main() -> None:
    """Serve until Ctrl-C; prints the port."""
    parser = argparse.ArgumentParser(description="Echo on the gateway's own wire.")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--pump", choices=("epoll", "task"), default="epoll")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--max-message-size", type=int, default=MESSAGE_BYTES_MAX)
    asked = parser.parse_args()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve, asked.port, asked.pump, asked.max_message_size, server_context() if asked.tls else None)
            print(f"{'wss' if asked.tls else 'ws'}://127.0.0.1:{port}/", flush=True)

    try:
        trio.run(run)
    except* KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
