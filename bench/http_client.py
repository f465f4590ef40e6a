"""A small HTTP/1.1 client over Trio and h11: one connection that is kept open, one request at a time."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import h11
import trio

READ_BYTES = 65_536
ANSWER_S = 30.0


class HttpClient:
    """One connection. `token` goes with every request."""

    def __init__(self, stream: trio.SocketStream, host: str, token: str) -> None:
        self._stream = stream
        self._connection = h11.Connection(h11.CLIENT)
        self._headers = [("Host", host), ("Content-Type", "application/json")]
        if token:
            self._headers.append(("Authorization", f"Bearer {token}"))

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status, and the body as JSON. Raises trio.TooSlowError, trio.BrokenResourceError when the server is gone."""
        sent = b"" if body is None else json.dumps(body).encode()
        request = h11.Request(method=method, target=path, headers=[*self._headers, ("Content-Length", str(len(sent)))])
        said = (self._connection.send(event) or b"" for event in (request, h11.Data(data=sent), h11.EndOfMessage()))
        with trio.fail_after(ANSWER_S):
            await self._stream.send_all(b"".join(said))
            status, answer = await self._answer()
        self._connection.start_next_cycle()
        return status, json.loads(answer) if answer else None

    async def _answer(self) -> tuple[int, bytes]:
        status, pieces = 0, list[bytes]()
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                read = await self._stream.receive_some(READ_BYTES)
                if not read:
                    raise trio.BrokenResourceError("the server has closed the connection")
                self._connection.receive_data(read)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return status, b"".join(pieces)


@asynccontextmanager
async def open_http(port: int, token: str = "") -> AsyncGenerator[HttpClient]:
    """A connection to 127.0.0.1. Raises OSError when nothing listens."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        yield HttpClient(stream, f"127.0.0.1:{port}", token)
