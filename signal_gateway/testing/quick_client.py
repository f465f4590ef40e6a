"""A WebSocket client for simulated fleets: no task of its own, no library, every byte from the seed.

`Client` speaks through trio-websocket, the authority; with it, half of what a simulated hour costs would be the devices, and two thousand
phones on a core would measure themselves. This one knows
what a well-behaved server sends - whole messages, pings, a close - and takes anything else for the end of the link.
"""

from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from math import inf
from random import Random

import trio

from signal_gateway.testing.client import CLOSE_SECONDS_MAX, Client, LinkClosed, NoLink, Note, dial, note_nothing

READ_BYTES = 65_536
HEAD_BYTES_MAX = 16_384
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
NORMAL, NO_STATUS, LOST = 1000, 1005, 1006
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class QuickClient(Client):
    """One open link. Any task may send; one at a time receives, and it is that one that answers pings."""

    def __init__(self, stream: trio.abc.Stream, rest: bytes, random: Random, note: Note = note_nothing) -> None:
        self._stream = stream
        self._random = random
        self._note = note
        self._unread = bytearray(rest)
        self._writing = trio.Lock()
        self._end: LinkClosed | None = None

    async def send(self, message: bytes | str) -> None:
        """See Client.send."""
        if self._end is not None:
            raise self._told_again(self._end)
        self._note("sent", message)
        is_text = isinstance(message, str)
        await self._write(TEXT if is_text else BINARY, message.encode() if isinstance(message, str) else message)

    async def receive(self, deadline_s: float) -> bytes | str:
        """See Client.receive."""
        if deadline_s == inf:
            message = await self._read_message()
        else:
            with trio.fail_after(deadline_s):
                message = await self._read_message()
        self._note("heard", message)
        return message

    async def close(self) -> None:
        """Say goodbye and wait for the server's, unless the link has ended."""
        if self._end is None:
            with suppress(LinkClosed):
                await self._write(CLOSE, NORMAL.to_bytes(2, "big"))
                while True:
                    await self._read_message()

    async def _read_message(self) -> bytes | str:
        while True:
            if self._end is not None:
                raise self._told_again(self._end)
            frame = _take_frame(self._unread)
            if frame is None:
                await self._read_more()
                continue
            opcode, payload = frame
            if opcode == TEXT:
                return payload.decode()
            if opcode == BINARY:
                return payload
            if opcode == PING:
                await self._write(PONG, payload)
            elif opcode == CLOSE:
                told = self._ended(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NO_STATUS, payload[2:].decode())
                with suppress(LinkClosed):  # the server may not wait for this
                    await self._write(CLOSE, payload[:2])
                raise told
            elif opcode != PONG:
                raise self._ended(LOST, "")

    async def _read_more(self) -> None:
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except BROKEN:
            data = b""
        if not data:
            raise self._ended(LOST, "")
        self._unread += data

    async def _write(self, opcode: int, payload: bytes) -> None:
        frame = _masked_frame(opcode, payload, self._random.getrandbits(32).to_bytes(4, "big"))
        try:
            self._writing.acquire_nowait()
        except trio.WouldBlock:
            await self._writing.acquire()
        try:
            await self._stream.send_all(frame)
        except BROKEN:
            raise self._ended(LOST, "") from None
        finally:
            self._writing.release()

    def _ended(self, code: int, reason: str) -> LinkClosed:
        if self._end is None:
            self._end = LinkClosed(code, reason)
            self._note("closed", code)
        return self._told_again(self._end)

    def _told_again(self, end: LinkClosed) -> LinkClosed:
        """One object raised in several tasks would gather all their tracebacks."""
        return LinkClosed(end.code, end.reason)


@asynccontextmanager
async def open_quick_client(
    stream: trio.abc.Stream,
    resource: str,
    headers: Mapping[str, str],
    random: Random,
    deadline_s: float = 5.0,
    note: Note = note_nothing,
    host: str = "localhost",
) -> AsyncGenerator[QuickClient, None]:
    """A link over `stream`, which is closed at the end. Raises NoLink. `random` gives the key and the masks."""
    where = f"{host}{resource.partition('?')[0]}"
    try:
        try:
            with trio.fail_after(deadline_s):
                rest = await _upgrade(stream, resource, headers, random, host, where)
        except trio.TooSlowError:
            raise NoLink(f"{where} gave no link within {deadline_s:g} s") from None
        except BROKEN as error:
            raise NoLink(f"{where} gave no link: {type(error).__name__}") from None
        client = QuickClient(stream, rest, random, note)
        try:
            yield client
        finally:
            with trio.move_on_after(CLOSE_SECONDS_MAX, shield=True):
                await client.close()
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def dial_quickly(url: str, headers: Mapping[str, str], random: Random, deadline_s: float = 5.0) -> AsyncGenerator[QuickClient, None]:
    """A link to `url`. Raises NoLink, and ValueError for what is no URL of a WebSocket."""
    stream, host, resource = await dial(url, deadline_s)
    async with open_quick_client(stream, resource, headers, random, deadline_s, host=host) as client:
        yield client


async def _upgrade(stream: trio.abc.Stream, resource: str, headers: Mapping[str, str], random: Random, host: str, where: str) -> bytes:
    """Ask for the upgrade; what came behind the server's head."""
    key = b64encode(random.randbytes(16)).decode()
    lines = [
        f"GET {resource} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    await stream.send_all("\r\n".join([*lines, "\r\n"]).encode())
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        piece = await stream.receive_some(READ_BYTES)
        if not piece or len(data) > HEAD_BYTES_MAX:
            raise NoLink(f"{where} gave no link")
        data += piece
    if (refusal := _refusal(bytes(data[:end]), where)) is not None:
        raise refusal
    return bytes(data[end + 4 :])


def _refusal(head: bytes, where: str) -> NoLink | None:
    """What a head that grants no upgrade says; None for one that does."""
    words, *lines = head.split(b"\r\n")
    code = words.split(b" ", 2)[1:2]
    status = int(code[0]) if code and code[0].isdigit() else 0
    if status == 101:
        return None
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    after = fields.get(b"retry-after", b"")
    return NoLink(f"{where} refused: {status}", status, float(after) if after.isdigit() else None)


def _masked_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """A whole client's frame (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    keys = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(size, "big")
    return head + mask + masked


def _take_frame(unread: bytearray) -> tuple[int, bytes] | None:
    """The next whole frame of a server, taken out of `unread`: opcode and payload. A fragment has an opcode that nobody knows."""
    if len(unread) < 2:
        return None
    first, size = unread[0], unread[1] & 0x7F
    at = 2 if size < 126 else 4 if size == 126 else 10
    if len(unread) < at:
        return None
    if size >= 126:
        size = int.from_bytes(unread[2:at], "big")
    if len(unread) < at + size:
        return None
    payload = bytes(unread[at : at + size])
    del unread[: at + size]
    return first & 0x0F if first & 0xF0 == 0x80 else -1, payload
