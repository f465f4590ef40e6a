"""Hostile clients: each kind of abuse that a gateway must bear (H07 to H14), as raw bytes over any stream.

No WebSocket library would send what these send. Each kind is one coroutine that speaks; what the server answers is only listened to
as far as it tells how the attempt ended. Every attempt is bounded in time, and a client waits before it comes again: a crowd of them
is as hostile as its number, never as its machine.
"""

import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from random import Random
from typing import Final
from uuid import UUID

import trio

from protocol.frame import FrameType, encode_frame
from protocol.payload import PayloadKind, write_json

ATTEMPT_S = 60.0
"""Seconds after which an attempt that the server has not ended ends itself."""
CONNECT_S = 5.0
PAUSE_S = (1.0, 5.0)
"""A hostile client comes again after a random time between these, as any other device does."""

UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: aG9zdGlsZSBjbGllbnQhIQ==\r\nSec-WebSocket-Version: 13\r\n"
)
END: Final = b"\r\n"
_TEXT, _BINARY, _CONTINUATION, _PING = 0x81, 0x82, 0x00, 0x89
_NOT_FINAL: Final = 0x7F
_CLOSE: Final = 0x88

JSON_TRAPS: Final = (
    b"[" * 20_000,
    b'{"a":' * 5_000,
    b'{"timestamp":1,"timestamp":2}',
    b'{"timestamp":1e400}',
    b'{"timestamp":NaN}',
    b'{"timestamp":' + b"9" * 4_000 + b"}",
    b'{"timestamp":"\\ud800"}',
    b'{"timestamp":"\xff\xfe"}',
    b'{"timestamp":1} {"timestamp":2}',
    b"{" + b",".join(b'"k%d":0' % number for number in range(5_000)) + b"}",
)
CBOR_TRAPS: Final = (
    b"\xc1" * 5_000,
    b"\x9f" * 60_000,
    b"\x81" * 60_000,
    b"\x9b" + b"\xff" * 8,
    b"\xbb" + b"\x7f" + b"\xff" * 7,
    b"\x5b" + b"\x7f" + b"\xff" * 7,
    b"\xa2\x61a\x01\x61a\x02",
    b"\xd8\x1c\x81\xd8\x1d\x00",
    b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xc2\x59\x40\x00" + b"\xff" * 16_384,
)


def client_frame(first: int, payload: bytes = b"", stated_bytes: int | None = None) -> bytes:
    """A frame as a client sends it, under a mask of zeros; its header may state another length than the payload has."""
    size = len(payload) if stated_bytes is None else stated_bytes
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


class Attack:
    """One attempt: its connection, and what its client knows. `enrolment_key` is a valid one: who abuses may well be one of ours."""

    def __init__(self, stream: trio.abc.Stream, client_id: str, enrolment_key: str, random: Random) -> None:
        self.stream = stream
        self.client_id = client_id
        self.random = random
        self._enrolment_key = enrolment_key

    async def say(self, data: bytes) -> None:
        """Send bytes. Raises trio.BrokenResourceError when the server has ended the connection."""
        await self.stream.send_all(data)

    async def say_for_ever(self, data: bytes) -> None:
        """As fast as the server takes it."""
        while True:
            await self.say(data)

    async def trickle(self, data: bytes) -> None:
        """A byte now and then, over and over."""
        for number in chain.from_iterable(repeat(data)):
            await self.say(bytes((number,)))
            await trio.sleep(self.random.uniform(0.2, 1.0))

    async def ask(self, frame_type: int, payload: bytes, kind: int = PayloadKind.JSON) -> None:
        """Send one frame of the gateway's own protocol."""
        uuid = UUID(int=self.random.getrandbits(128), version=4).bytes
        await self.say(client_frame(_BINARY, encode_frame(frame_type, uuid, kind, payload)))

    async def come_in(self) -> None:
        """Upgrade and REGISTER. Nothing waits for the answers: the server keeps what comes behind until it has decided."""
        await self.say(UPGRADE + END)
        payload = {"version": "1.0.0", "client_id": self.client_id, "auth_token": self._enrolment_key}
        await self.ask(FrameType.REGISTER, write_json(payload))


async def _slow_handshake(attack: Attack) -> None:
    await attack.trickle(UPGRADE)


async def _header_bomb(attack: Attack) -> None:
    many = b"".join(b"x-%d: y\r\n" % number for number in range(1_000))
    await attack.say(UPGRADE + attack.random.choice((many + END, b"x-long: " + b"y" * 65_536)))


async def _silent_upgrade(attack: Attack) -> None:
    await attack.say(UPGRADE + END)


async def _wrong_token(attack: Attack) -> None:
    token = f"guess-{attack.random.getrandbits(64):016x}"
    if attack.random.random() < 0.5:
        info = f'Device-Info: {{"device_id":"{attack.client_id}"}}\r\nAuthorization: Bearer {token}\r\n'
        await attack.say(UPGRADE + info.encode() + END)
        return
    await attack.say(UPGRADE + END)
    await attack.ask(FrameType.CONNECT, write_json({"client_id": attack.client_id, "auth_token": token}))


async def _garbage(attack: Attack) -> None:
    await attack.come_in()
    for _ in range(40):
        start = attack.random.choice((b"\xaa", b""))
        await attack.say(client_frame(_BINARY, start + attack.random.randbytes(attack.random.randrange(200))))


async def _oversize(attack: Attack) -> None:
    await attack.come_in()
    await attack.say(client_frame(attack.random.choice((_TEXT, _BINARY)), b"", attack.random.choice((1_048_577, 2**40, 2**63 - 1))))
    await attack.say_for_ever(bytes(16_384))


async def _fragment_flood(attack: Attack) -> None:
    await attack.come_in()
    await attack.say(client_frame(_BINARY & _NOT_FINAL, b"x"))
    await attack.say_for_ever(client_frame(_CONTINUATION, b"x") * 100)


async def _empty_fragment_flood(attack: Attack) -> None:
    await attack.come_in()
    await attack.say(client_frame(_BINARY & _NOT_FINAL))
    await attack.say_for_ever(client_frame(_CONTINUATION) * 100)


async def _ping_flood(attack: Attack) -> None:
    await attack.come_in()
    await attack.say_for_ever(client_frame(_PING) * 500)


async def _half_message(attack: Attack) -> None:
    await attack.come_in()
    await attack.say(client_frame(_BINARY, b"", 60_000))
    await attack.trickle(b"x")


async def _slow_reader(attack: Attack) -> None:
    await attack.come_in()
    await attack.say_for_ever(client_frame(_PING, bytes(125)) * 100)


async def _payload_traps(attack: Attack) -> None:
    await attack.come_in()
    for _ in range(40):
        frame_type = attack.random.choice((FrameType.HEARTBEAT, FrameType.REPORT, FrameType.REGISTER))
        if attack.random.random() < 0.5:
            await attack.ask(frame_type, attack.random.choice(JSON_TRAPS))
        else:
            await attack.ask(frame_type, attack.random.choice(CBOR_TRAPS), PayloadKind.CBOR)


async def _reset_churn(attack: Attack) -> None:
    await attack.say(attack.random.choice((b"G", UPGRADE, UPGRADE + END)))
    if isinstance(attack.stream, trio.SocketStream):  # a reset instead of an orderly end
        attack.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    await trio.aclose_forcefully(attack.stream)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be hostile."""

    name: str
    speak: Callable[[Attack], Awaitable[None]]
    pause_s: tuple[float, float] = PAUSE_S
    reads: bool = True


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("slow_handshake", _slow_handshake),
        Kind("header_bomb", _header_bomb),
        Kind("silent_upgrade", _silent_upgrade),
        Kind("wrong_token", _wrong_token),
        Kind("garbage", _garbage),
        Kind("oversize", _oversize),
        Kind("fragment_flood", _fragment_flood),
        Kind("empty_fragment_flood", _empty_fragment_flood),
        Kind("ping_flood", _ping_flood),
        Kind("half_message", _half_message),
        Kind("slow_reader", _slow_reader, reads=False),
        Kind("payload_traps", _payload_traps),
        Kind("reset_churn", _reset_churn, pause_s=(0.5, 1.5)),
    )
}
"""By name, in the order of a connection's life."""


class Ear:
    """Hears just enough of what the server says to tell how it ended: the status of its answer, the code of its close frame."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.close_code: int | None = None
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """What came."""
        self._rest += data
        if self.status is None:
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            self.status, self._rest = int(head[9:12]), rest
        if self.status == 101:
            self._hear_frames()

    def words(self) -> str:
        """How it ended: `closed 4503`, `refused 429`, or `cut`."""
        if self.close_code is not None:
            return f"closed {self.close_code}"
        return "cut" if self.status in (None, 101) else f"refused {self.status}"

    def _hear_frames(self) -> None:
        at, data = 0, self._rest
        while len(data) - at >= 4:
            size, body = data[at + 1] & 0x7F, at + 2
            if size == 126:
                size, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, body = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if len(data) < body + size:
                break
            if data[at] == _CLOSE and size >= 2:
                self.close_code = int.from_bytes(data[body : body + 2], "big")
            at = body + size
        self._rest = data[at:]


class HostileClient:
    """One hostile client of one kind: connects, is hostile, comes again, until it is cancelled.

    `connect` opens a new connection, and raises OSError when there is none. How attempts ended is counted in `ends`, in words.
    """

    def __init__(
        self,
        kind: Kind,
        number: int,
        connect: Callable[[], Awaitable[trio.abc.Stream]],
        ends: Counter[str],
        enrolment_key: str,
        random: Random | None = None,
    ) -> None:
        self.kind = kind
        self.client_id = f"hostile-{kind.name}-{number:03d}"
        self.ends = ends
        self.random = random or Random(self.client_id)
        self._connect = connect
        self._enrolment_key = enrolment_key

    async def live(self) -> None:
        """Attack again and again."""
        await trio.sleep(self.random.uniform(0, self.kind.pause_s[1]))
        while True:
            self.ends[await self.attack()] += 1
            await trio.sleep(self.random.uniform(*self.kind.pause_s))

    async def attack(self) -> str:
        """One connection from beginning to end: in words, how it ended."""
        stream: trio.abc.Stream | None = None
        try:
            with trio.move_on_after(CONNECT_S):
                stream = await self._connect()
        except OSError:
            pass  # told below, like one that takes too long
        if stream is None:
            return "no connection"
        ear = Ear()
        try:
            with trio.move_on_after(ATTEMPT_S) as deadline:
                await self._live_through(Attack(stream, self.client_id, self._enrolment_key, self.random), ear)
            return f"still open after {ATTEMPT_S:g} s" if deadline.cancelled_caught else ear.words()
        finally:
            await trio.aclose_forcefully(stream)

    async def _live_through(self, attack: Attack, ear: Ear) -> None:
        if not self.kind.reads:
            await self._speak(attack)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak, attack)
            try:
                async for data in attack.stream:
                    ear.feed(bytes(data))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # reset by the server, or left by ourselves
            nursery.cancel_scope.cancel()

    async def _speak(self, attack: Attack) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # whoever listens hears how it ended
            await self.kind.speak(attack)
