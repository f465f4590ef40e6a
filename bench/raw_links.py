"""WebSocket links by hand, many in one thread: the load side of rooms and of their peers. Blocking while they open, then one epoll set.

What is measured is the server's CPU, so the load side only has to be the same for all; it counts bytes, since all messages of one kind
are equally long.
"""

import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.build import Unmeasured
from bench.processes import cpu_s

TEXT, BINARY = 1, 2
READ_BYTES = 262_144
PATIENCE_S = 10.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def masked(payload: bytes, opcode: int = BINARY) -> bytes:
    """One frame of a client, under a mask of zeros: as cheap to make as it is valid."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size)) + bytes(4) + payload
    return bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big") + bytes(4) + payload


class RawLink:
    """One link."""

    def __init__(self, port: int, path: str, headers: Mapping[str, str] | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        upgrade = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}"
        self.socket.sendall(f"{upgrade}Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self._unread = b""
        head = self._until(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise Unmeasured(f"no upgrade: {head[:80]!r}")

    def say(self, payload: bytes, opcode: int = BINARY) -> None:
        """Send one message."""
        self.socket.sendall(masked(payload, opcode))

    def hear(self) -> bytes:
        """The next whole message; pings and the like are passed over."""
        while True:
            head = self._take(2)
            size = head[1] & 0x7F
            if size == 126:
                size = int.from_bytes(self._take(2), "big")
            elif size == 127:
                size = int.from_bytes(self._take(8), "big")
            payload = self._take(size)
            if head[0] & 0x0F in (TEXT, BINARY):
                return payload

    def hush(self, for_s: float = 0.2) -> None:
        """Read and forget what comes until nothing does."""
        self._unread = b""
        self.socket.settimeout(for_s)
        try:
            while self.socket.recv(READ_BYTES):
                pass
        except TimeoutError:
            pass
        self.socket.settimeout(PATIENCE_S)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _until(self, end: bytes) -> bytes:
        while end not in self._unread:
            self._unread += self._read()
        head, _, self._unread = self._unread.partition(end)
        return head

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._unread += self._read()
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def _read(self) -> bytes:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise Unmeasured("the server hung up")
        return data


@dataclass(frozen=True)
class Flow:
    """What one link hears, and who is to say what when it has: `unit` bytes are one message."""

    unit: int
    speaker: RawLink
    question: bytes
    """A frame that the speaker sends for each message that was heard."""


class Pump:
    """Drives links over sockets that no longer block: each message that is heard makes its speaker say the next one."""

    def __init__(self, flows: Mapping[RawLink, Flow], gather: int = 1) -> None:
        self._flows = {link.socket.fileno(): (link, flow) for link, flow in flows.items()}
        self._owed = dict.fromkeys(self._flows, 0)
        self._gather = gather
        self._gathered = 0
        self._poller = select.epoll()
        for descriptor, (link, _) in self._flows.items():
            link.socket.setblocking(False)
            self._poller.register(descriptor, select.EPOLLIN)
        self.heard = 0

    def begin(self, in_flight: int) -> None:
        """Put so many messages on every way."""
        for _, flow in self._flows.values():
            flow.speaker.socket.sendall(flow.question * in_flight)

    def broadcast(self) -> None:
        """One message of the one speaker there is, for all who hear."""
        _, flow = next(iter(self._flows.values()))
        flow.speaker.socket.sendall(flow.question)

    def run(self, seconds: float) -> None:
        """Go on for so long."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for descriptor, _ in self._poller.poll(0.1):
                self._hear(descriptor)

    def _hear(self, descriptor: int) -> None:
        link, flow = self._flows[descriptor]
        data = link.socket.recv(READ_BYTES)
        if not data:
            raise Unmeasured("the server hung up")
        messages, self._owed[descriptor] = divmod(self._owed[descriptor] + len(data), flow.unit)
        if not messages:
            return
        self.heard += messages
        if self._gather == 1:
            flow.speaker.socket.sendall(flow.question * messages)
            return
        self._gathered += messages
        if self._gathered >= self._gather:
            self._gathered -= self._gather
            flow.speaker.socket.sendall(flow.question)


def pumped(process_id: int, pump: Pump, begin: Callable[[], None], seconds: float, warm_up_s: float) -> dict[str, float]:
    """CPU of the server for each message that was heard, in one window."""
    begin()
    pump.run(warm_up_s)
    if not pump.heard:
        raise Unmeasured("nothing is passed on")
    before, cpu_before, begun_at = pump.heard, cpu_s(process_id), time.perf_counter()
    pump.run(seconds)
    lasted_s = time.perf_counter() - begun_at
    heard = pump.heard - before
    return {"cpu_us": 1e6 * (cpu_s(process_id) - cpu_before) / heard, "per_second": heard / lasted_s}


def closed(links: Sequence[RawLink]) -> None:
    """Hang all of them up."""
    for link in links:
        link.close()
