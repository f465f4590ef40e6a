"""An echo server on the gateway's own handshake, stream, parser, outbox and pumps: for conformance suites and benches.

    python -m signal_gateway.testing.echo --port 9001 --pump epoll [--tls] [--max-message-size BYTES]

Any path, no authentication: whatever comes goes back. Only the links' own services are missing; the wire is the gateway's. With `--tls` it
shows the certificate `signal_gateway/testing/localhost.pem`, which clients must be told to trust.
"""

import argparse
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import trio
import trio_websocket

from protocol.close_codes import CloseCode
from signal_gateway.domain.rate_limit import Rate
from signal_gateway.lifecycle import stage
from signal_gateway.observe.metrics import Metrics
from signal_gateway.testing.localhost import server_context
from signal_gateway.websocket.frame_parser import BINARY, CLOSE, PONG, TEXT, FrameParser, data_frame
from signal_gateway.websocket.handshake import GoneAway, HandshakeSettings, Refused, check_upgrade, plain_answer, read_request
from signal_gateway.websocket.lane import HAS_EPOLL, Lane
from signal_gateway.websocket.listener import GONE
from signal_gateway.websocket.outbox import Outbox, OutboxSettings
from signal_gateway.websocket.server_settings import ServerSettings
from signal_gateway.websocket.sockets import open_listeners, port_of
from signal_gateway.websocket.stream import LinkStream
from signal_gateway.websocket.turn import Turn

MESSAGE_BYTES_MAX = 1_048_576
READ_BYTES_MAX = 65_536
CLOSE_S = 2.0
UNLIMITED = Rate(0.0, 0.0)


class EchoLink:
    """One connection that says what it hears."""

    def __init__(self, transport: trio.abc.Stream, nursery: trio.Nursery, metrics: Metrics, turn: Turn, message_bytes_max: int) -> None:
        self._transport = transport
        self._nursery = nursery
        self._metrics = metrics
        self._turn = turn
        self._message_bytes_max = message_bytes_max
        # A message may come back before its sender reads again: the outbox holds one, and what else is under way.
        settings = OutboxSettings(messages_max=100_000, bytes_max=4 * message_bytes_max + 1_048_576)
        self._outbox = Outbox(settings, transport, metrics, turn, self._spawn, self._end)
        self._websocket: trio_websocket.WebSocketConnection | None = None

    async def run(self, lane: Lane | None) -> None:
        """Answer the upgrade, and echo until the link is closed. Raises Refused, GoneAway."""
        request = await read_request(self._transport, HandshakeSettings())
        check_upgrade(replace(request, path="/ws"))
        self._stream = LinkStream(self._transport, self._outbox, request, UNLIMITED, self._metrics, self._turn, self._spawn, READ_BYTES_MAX)
        self._parser = self._stream.parser = FrameParser(self, fragments_max=self._message_bytes_max)
        self._parser.limit_messages(self._message_bytes_max, "server.max_message_size")
        self._stream.last_word = self._close_frame
        with trio.fail_after(CLOSE_S):
            wrap = trio_websocket.wrap_server_stream
            proposal = await wrap(self._nursery, self._stream, max_message_size=self._message_bytes_max)
            self._websocket = await proposal.accept()
        self._stream.begin(lane)
        try:
            await self._echo_for_library(self._websocket)
        except trio_websocket.ConnectionClosed:
            await self._stream.aclose()

    def hear_data(self, is_text: bool, payload: bytes) -> bool:
        """See FrameHearer."""
        self._outbox.put(data_frame(TEXT if is_text else BINARY, payload))
        return True

    def hear_ping(self, payload: bytes) -> None:
        """See FrameHearer."""
        self._outbox.put(data_frame(PONG, payload))

    def hear_pong(self) -> None:
        """See FrameHearer."""

    def pass_on(self, data: bytes) -> None:
        """See FrameHearer."""
        self._stream.pass_on(data)

    def refuse_size(self, limit: str) -> None:
        """See FrameHearer."""
        self._spawn(partial(self._close, CloseCode.TOO_BIG))

    async def _echo_for_library(self, websocket: trio_websocket.WebSocketConnection) -> None:
        while True:
            message = await websocket.get_message()
            is_text = isinstance(message, str)
            self.hear_data(is_text, message.encode() if isinstance(message, str) else message)
            await self._outbox.drain()
            self._parser.library_gave_message()
            self._stream.go_on()

    async def _close(self, code: int) -> None:
        if self._websocket is not None:
            with trio.move_on_after(CLOSE_S):
                await self._websocket.aclose(code)
        self._nursery.cancel_scope.cancel()

    def _close_frame(self) -> bytes | None:
        closed = self._websocket.closed if self._websocket is not None else None
        if closed is None or closed.code not in (CloseCode.PROTOCOL_ERROR, CloseCode.BAD_DATA):
            return None
        return data_frame(CLOSE, int(closed.code).to_bytes(2, "big"))

    def _end(self, limit: str) -> None:
        self._nursery.cancel_scope.cancel()

    def _spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(task)


async def serve_connection(transport: trio.abc.Stream, metrics: Metrics, turn: Turn, lane: Lane | None, message_bytes_max: int) -> None:
    """One connection, whatever becomes of it."""
    try:
        async with trio.open_nursery() as nursery:
            try:
                await EchoLink(transport, nursery, metrics, turn, message_bytes_max).run(lane)
            except Refused as refused:
                await transport.send_all(plain_answer(refused))
            except GoneAway:
                pass
            nursery.cancel_scope.cancel()
    except* GONE:
        pass
    finally:
        await trio.aclose_forcefully(transport)


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
        listeners = await open_listeners(ServerSettings(port=port), tls)
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
