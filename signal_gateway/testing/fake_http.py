"""A small HTTP/1.1 server for stand-ins of other systems: kept connections, and faults where a test wants them."""

import json
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import h11
import trio

READ_BYTES = 65_536

Handled = tuple[int, Mapping[str, str], bytes]
"""Status, headers, body."""


@dataclass(frozen=True)
class Seen:
    """One request. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Gate:
    """A request that comes to it waits there: `reached` tells that one has, `opened` lets it through."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self.opened = trio.Event()

    async def pass_through(self) -> None:
        """Wait until it is open."""
        self.reached.set()
        await self.opened.wait()


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    - "status": it is answered with `status` and the errorCode `code`, and Retry-After where that is above 0; nothing is done.
    - "cut": it is done, and the connection ends before the answer. "cut_unseen": the connection ends and nothing is done.
    - "cut_within": the connection ends in the middle of the answer.
    - "slow": the answer comes after `seconds`. "held": it comes when `gate` is open. In both cases it is done before.
    - "garbage": a 200 that is no JSON. "endless": a 200 of `bytes` bytes.
    """

    kind: Literal["status", "cut", "cut_unseen", "cut_within", "slow", "held", "garbage", "endless"]
    status: int = 503
    code: str = "internal_error"
    retry_after_s: int = 0
    seconds: float = 0
    bytes: int = 0
    gate: Gate | None = None


class Site(Protocol):
    """What is served."""

    faults: deque[Fault]

    def connected(self) -> None:
        """Somebody has connected."""
        ...

    def answer(self, seen: Seen) -> Handled:
        """What is answered to a request."""
        ...


async def serve_http(site: Site, task_status: trio.TaskStatus[str], tls: ssl.SSLContext | None = None) -> None:
    """Serve `site` on a free port of loopback until cancelled; started with its address, `http://localhost:PORT`, or https with `tls`."""
    (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listeners = [plain if tls is None else trio.SSLListener(plain, tls, https_compatible=True)]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, partial(_serve, site), listeners, handler_nursery=nursery))
        task_status.started(f"http{'' if tls is None else 's'}://localhost:{plain.socket.getsockname()[1]}")


async def _serve(site: Site, stream: trio.abc.Stream) -> None:
    site.connected()
    connection = h11.Connection(h11.SERVER)
    async with stream:
        try:
            while (seen := await _request(connection, stream)) is not None:
                if not await _answered(site, seen, connection, stream):
                    return
                connection.start_next_cycle()
        except (trio.BrokenResourceError, h11.ProtocolError):  # the client gave up waiting
            return


async def _request(connection: h11.Connection, stream: trio.abc.Stream) -> Seen | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(READ_BYTES)))
            case h11.Request() as request:
                head = request
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage() if head is not None:
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Seen(head.method.decode(), head.target.decode(), headers, bytes(body))
            case _:
                return None


async def _answered(site: Site, seen: Seen, connection: h11.Connection, stream: trio.abc.Stream) -> bool:
    """Answer one request, in the way of the next fault. Returns whether the connection goes on."""
    fault = site.faults.popleft() if site.faults else None
    kind = None if fault is None else fault.kind
    if kind == "cut_unseen":
        return False
    status, headers, body = faulty(fault) if fault is not None and kind in ("status", "garbage", "endless") else site.answer(seen)
    if kind == "cut":
        return False
    if fault is not None and kind == "slow":
        await trio.sleep(fault.seconds)
    if fault is not None and fault.gate is not None:
        await fault.gate.pass_through()
    fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers.items()]
    data = connection.send(h11.Response(status_code=status, headers=fields)) or b""
    if kind == "cut_within":
        await stream.send_all(data + body[: len(body) // 2])
        return False
    data += connection.send(h11.Data(data=body)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await stream.send_all(data)
    return True


def faulty(fault: Fault) -> Handled:
    """What is answered instead, for those kinds that do nothing."""
    if fault.kind == "garbage":
        return 200, {}, b"<html>oops</html>"
    if fault.kind == "endless":
        return 200, {}, b" " * fault.bytes
    retry = {"Retry-After": str(fault.retry_after_s)} if fault.retry_after_s else {}
    return fault.status, retry, json.dumps({"errorCode": fault.code, "errorDescription": "Backend error"}).encode()
