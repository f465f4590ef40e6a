"""Members of rooms, as tests speak for them: agents in frames (JSON or CBOR) and browsers in text, with the same words."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from protocol.payload import PayloadKind
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import World

from .talk import UUID, frame, hear

CODES = {
    "connect": 0x01,
    "register": 0x20,
    "unregister": 0x22,
    "webrtc_room_create": 0x30,
    "webrtc_room_join": 0x32,
    "webrtc_room_leave": 0x34,
    "signal_offer": 0x10,
    "signal_answer": 0x11,
    "signal_ice_candidate": 0x12,
}


@dataclass
class Member:
    """One client on a link. What it hears is a name in lower case and the payload, whatever the encoding."""

    client: Client
    client_id: str
    token: str
    speaks: str

    async def say(self, name: str, **payload: Any) -> None:
        """Say something that may have no answer."""
        payload = {"version": "1.0.0", **payload}
        if self.speaks == "text":
            await self.client.send(_text(name, payload))
        else:
            kind = PayloadKind.CBOR if self.speaks == "cbor" else PayloadKind.JSON
            await self.client.send(frame(CODES[name], payload, kind))

    async def hear(self) -> tuple[str, Any]:
        """What is said to it next."""
        heard: Any = await hear(self.client)
        if isinstance(heard, dict):
            return heard["type"], heard["data"]
        frame_type, _, kind, payload = heard
        assert kind == (PayloadKind.CBOR if self.speaks == "cbor" else PayloadKind.JSON)
        return frame_type.name.lower(), payload

    async def ask(self, name: str, **payload: Any) -> tuple[int, Any]:
        """Ask for something: the status and the payload of what is said next, which must be its answer or an ERROR."""
        await self.say(name, client_id=self.client_id, **payload)
        answer_name, answer = await self.hear()
        assert answer_name in (f"{name}_ack", "error"), (answer_name, answer)
        return answer["status"], answer

    async def create(self, **payload: Any) -> str:
        """Open a room; its id."""
        status, answer = await self.ask("webrtc_room_create", role="sender", **payload)
        assert status == 200, answer
        return answer["room_id"]

    async def join(self, room_id: str, role: str = "receiver", **payload: Any) -> Any:
        """Come in; the answer."""
        status, answer = await self.ask("webrtc_room_join", room_id=room_id, role=role, **payload)
        assert status == 200, answer
        return answer

    async def leave(self, room_id: str, reason: str = "done") -> int:
        """Leave; the status."""
        status, _ = await self.ask("webrtc_room_leave", room_id=room_id, reason=reason)
        return status

    async def hears_nothing(self, for_s: float = 1.0) -> None:
        """Fail if anything is said to it meanwhile."""
        with trio.move_on_after(for_s):
            raise AssertionError(await self.hear())


def _text(name: str, payload: Any) -> str:
    return json.dumps({"type": name, "request_id": UUID.hex(), "data": payload})


@asynccontextmanager
async def member(
    world: World, client_id: str, speaks: str = "json", token: str | None = None, action: str = "register"
) -> AsyncGenerator[Member, None]:
    """A client that has registered (or connected) with `token`, by default `token-<client id>`."""
    async with world.dial_quickly(client_id, "/ws", {}) as client:
        one = Member(client, client_id, token or f"token-{client_id}", speaks)
        status, answer = await one.ask(action, auth_token=one.token)
        assert status == 200, answer
        yield one
