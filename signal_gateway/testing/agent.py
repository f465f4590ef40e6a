"""A simulated agent: a microcontroller or WebRTC peer that speaks frames (seed 003), over any stream."""

from collections.abc import Mapping
from contextlib import suppress
from random import Random
from typing import Any
from uuid import UUID

import trio

from protocol.close_codes import CloseCode
from protocol.frame import FrameType, decode_frame, encode_frame
from protocol.payload import PayloadKind, read_payload, write_payload
from signal_gateway.testing.client import Client, LinkClosed
from signal_gateway.testing.device import HEARTBEAT_S, Dial, SimulatedDevice
from signal_gateway.testing.numbers import FleetNumbers

ANSWER_S = 10.0
WIRE_VERSION = "1.0.0"


class SimulatedAgent(SimulatedDevice):
    """Connects (or registers) with its token, in JSON or CBOR frames, and beats."""

    def __init__(
        self,
        client_id: str,
        token: str,
        dial: Dial,
        numbers: FleetNumbers | None = None,
        random: Random | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        payload_kind: int = PayloadKind.JSON,
        registers: bool = False,
    ) -> None:
        super().__init__(client_id, dial, numbers or FleetNumbers(), random or Random(client_id), heartbeat_s)
        self.payload_kind = payload_kind
        self.registers = registers
        """REGISTER instead of CONNECT."""
        self.session_id: str | None = None
        self.said_to_it: list[tuple[int, Any]] = []
        """What the server said unasked: frame type and payload, oldest first."""
        self.told = trio.Event()
        """Set, and another one in its place, when something was said unasked."""
        self._token = token
        self._asked: dict[bytes, tuple[float, trio.MemorySendChannel[tuple[int, Any]]]] = {}

    def where(self) -> tuple[str, Mapping[str, str]]:
        """See SimulatedDevice.where: an agent proves itself inside the link."""
        return "/ws", {}

    async def introduce(self, client: Client) -> None:
        """CONNECT or REGISTER; the answer must be 200."""
        asks: dict[str, Any] = {"version": WIRE_VERSION, "client_id": self.device_id, "auth_token": self._token}
        if self.registers:
            asks |= {"capabilities": ["websocket", "heartbeat"], "metadata": {"platform": "simulated"}}
        await self._send(client, FrameType.REGISTER if self.registers else FrameType.CONNECT, asks)
        _, answer = self._read(await client.receive(ANSWER_S))
        if answer["status"] != 200:
            self.numbers.failures[f"refused: {answer['status']}"] += 1
            raise LinkClosed(_meaning(answer["status"]), str(answer.get("message", "")))
        self.session_id = answer["session_id"]

    async def beat(self, client: Client) -> None:
        """A heartbeat; its answer is a latency."""
        await self._send(client, FrameType.HEARTBEAT, {"timestamp": int(trio.current_time() * 1000)}, counts=True)

    async def ask(self, frame_type: int, payload: Any) -> tuple[int, Any]:
        """Send a frame and wait for the frame that carries the same UUID: its type and its payload. Raises trio.TooSlowError."""
        if self.client is None:
            raise RuntimeError(f"{self.device_id} has no link")
        answers, answer = trio.open_memory_channel[tuple[int, Any]](1)
        uuid = await self._send(self.client, frame_type, payload)
        self._asked[uuid] = (trio.current_time(), answers)
        with trio.fail_after(ANSWER_S):
            return await answer.receive()

    async def tell(self, frame_type: int, payload: Any) -> None:
        """Send a frame that has no answer."""
        if self.client is None:
            raise RuntimeError(f"{self.device_id} has no link")
        await self._send(self.client, frame_type, payload)

    async def hear(self, client: Client, message: bytes | str) -> None:
        """See SimulatedDevice.hear."""
        frame = decode_frame(message.encode() if isinstance(message, str) else message)
        payload = read_payload(frame.payload_kind, frame.payload)
        self.numbers.heard[FrameType(frame.type).name.lower()] += 1
        asked = self._asked.pop(frame.uuid, None)
        if asked is None:
            self.said_to_it.append((frame.type, payload))
            self.told.set()
            self.told = trio.Event()
            return
        asked_at, answers = asked
        self.numbers.latencies_s.append(trio.current_time() - asked_at)
        with suppress(trio.BrokenResourceError):  # nobody waits for the answer of a heartbeat
            answers.send_nowait((frame.type, payload))

    async def _send(self, client: Client, frame_type: int, payload: Any, counts: bool = False) -> bytes:
        uuid = UUID(int=self.random.getrandbits(128), version=4).bytes
        if counts:
            answers, _ = trio.open_memory_channel[tuple[int, Any]](1)
            self._asked[uuid] = (trio.current_time(), answers)
        await client.send(encode_frame(frame_type, uuid, self.payload_kind, write_payload(self.payload_kind, payload)))
        self.numbers.sent[FrameType(frame_type).name.lower()] += 1
        return uuid

    def _read(self, message: bytes | str) -> tuple[int, Any]:
        frame = decode_frame(message.encode() if isinstance(message, str) else message)
        self.numbers.heard[FrameType(frame.type).name.lower()] += 1
        return frame.type, read_payload(frame.payload_kind, frame.payload)


def _meaning(status: int) -> CloseCode:
    """The close code that follows a refusal of this status: it tells whether to come back."""
    if status >= 500:
        return CloseCode.INTERNAL
    return CloseCode.TOO_MANY if status in (409, 429) else CloseCode.UNAUTHORISED
