"""Short words for what tests say to a gateway, and for what it answers."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from protocol.frame import FrameType, decode_frame, encode_frame
from protocol.payload import PayloadKind, read_payload, write_payload
from signal_gateway.testing.client import Client, LinkClosed, NoLink
from signal_gateway.testing.world import World

ANSWER_S = 20.0
UUID = bytes.fromhex("550E8400E29B41D4A716446655440002")
PHONE_HEADERS = {"Authorization": "Bearer demo-enrolment-key", "Queue-Name": "q1", "Device-Info": '{"device_id":"phone-1"}'}


def phone_headers(device_id: str = "phone-1", key: str | None = "demo-enrolment-key", **info: Any) -> dict[str, str]:
    """Headers of a phone's upgrade."""
    headers = {"Queue-Name": f"queue-{device_id}", "Device-Info": json.dumps({"device_id": device_id, **info})}
    return headers if key is None else {**headers, "Authorization": f"Bearer {key}"}


def frame(frame_type: int, payload: Any, kind: int = PayloadKind.JSON, uuid: bytes = UUID) -> bytes:
    """One frame."""
    return encode_frame(frame_type, uuid, kind, write_payload(kind, payload))


async def hear(client: Client) -> Any:
    """The next message: a dict of JSON text, or (frame type, uuid, payload kind, payload)."""
    message = await client.receive(ANSWER_S)
    if isinstance(message, str):
        return json.loads(message)
    read = decode_frame(message)
    return FrameType(read.type), read.uuid, PayloadKind(read.payload_kind), read_payload(read.payload_kind, read.payload)


async def ask(client: Client, frame_type: int, payload: Any, kind: int = PayloadKind.JSON) -> tuple[FrameType, Any]:
    """Send a frame; the type and payload of the answer, which must carry the same UUID and payload kind."""
    await client.send(frame(frame_type, payload, kind))
    answer_type, uuid, answer_kind, answer = await hear(client)
    assert uuid == UUID
    assert answer_kind == kind
    return answer_type, answer


async def ask_json(client: Client, message: Mapping[str, Any]) -> Any:
    """Send a text message; the answer."""
    await client.send(json.dumps(message))
    return await hear(client)


async def connect(client: Client, client_id: str = "test_client_1", token: str = "test_token_1") -> Any:
    """CONNECT; the payload of the answer."""
    answer_type, answer = await ask(client, FrameType.CONNECT, {"client_id": client_id, "auth_token": token})
    assert answer_type is FrameType.CONNECT_ACK
    return answer


async def closing(client: Client) -> int:
    """Read on until the link is closed: its close code."""
    while True:
        try:
            await client.receive(200)
        except LinkClosed as closed:
            return closed.code


async def refusal(world: World, resource: str = "/ws", headers: Mapping[str, str] | None = None) -> int | None:
    """The HTTP status with which an upgrade is refused."""
    with pytest.raises(NoLink) as caught:
        async with world.dial(resource, headers):
            pass
    return caught.value.status
