"""Frames that are cut, flipped or of the wrong length: each is answered, nothing escapes, and nothing is changed by it (H11).

Every payload length from 0 to 65,535, stated right and one off, is tried in tests/protocol/test_frame.py.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import trio
from sqlalchemy import text as sql
from trio.testing import MockClock
from wsproto.events import BytesMessage, Ping, TextMessage

import protocol.dialect as dialect
from protocol.agent import HEARD
from protocol.errors import WireError
from protocol.frame import FrameType, PayloadKind, decode_frame, encode_frame
from protocol.payload import write_payload
from signal_gateway.config import Config
from signal_gateway.services.limits import LimitsSettings
from signal_gateway.testing.world import World
from signal_gateway.websocket.admission import SecuritySettings
from tests.hazards.upgrades import PHONE, head, status_of
from tests.protocol.golden import SEED_FRAMES
from tests.protocol.seed_phone_messages import report
from tests.protocol.test_agent import COMPLETE
from tests.websocket.client_frames import binary, client_frame, text
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import closing, connect, frame, hear, phone_headers
from tests.websocket.test_links import RawLink

UUID = bytes(range(0x80, 0x90))
KINDS = (PayloadKind.JSON, PayloadKind.CBOR)
TABLES = ("credentials", "devices", "registrations", "device_status", "reports", "connection_logs", "audit")


def golden() -> dict[str, bytes]:
    """The frames of the seed, and one of every type that is heard, in both encodings of objects."""
    frames = {f"{seed.name} of the seed": seed.corrected for seed in SEED_FRAMES}
    for kind in KINDS:
        for frame_type, shape in HEARD.items():
            payload = write_payload(kind, COMPLETE[shape])
            frames[f"{FrameType(frame_type).name} in {kind.name}"] = encode_frame(frame_type, UUID, kind, payload)
        frames[f"REPORT in {kind.name}"] = encode_frame(FrameType.REPORT, UUID, kind, write_payload(kind, report("sms_log")))
    return frames


GOLDEN = golden()


def mutants(whole: bytes) -> Iterator[bytes]:
    """Every truncation and every single-bit flip."""
    for length in range(len(whole)):
        yield whole[:length]
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            yield bytes(flipped)


def fault_of(data: bytes) -> WireError | None:
    try:
        dialect.decode(False, data, "agent")
    except WireError as error:
        return error
    return None


@pytest.mark.slow
@pytest.mark.parametrize("whole", GOLDEN.values(), ids=GOLDEN.keys())
def test_every_truncation_and_flip_is_a_message_or_a_refusal_that_can_be_answered(whole: bytes):
    for mutant in mutants(whole):
        error = fault_of(mutant)
        if error is None:
            assert len(mutant) == len(whole)
            continue
        assert error.question is not None
        assert error.question.uuid == (mutant[2:18] if len(mutant) >= 18 else bytes(16))
        fault = dialect.Fault(error.kind.status, error.kind.type, error.kind.code, error.reason, error.message, error.details)
        answer = decode_frame(dialect.error(error.question, False, fault))
        assert (answer.type, answer.uuid) == (FrameType.ERROR, error.question.uuid)


def test_no_truncation_is_a_message():
    for whole in GOLDEN.values():
        assert all(fault_of(whole[:length]) is not None for length in range(len(whole)))


class TestAtTheDoor:
    """The same on whole links, where no rate hides anything."""

    @pytest.fixture
    def config(self) -> Config:
        limits = LimitsSettings(data_per_s=0, control_per_min=0, signal_per_min=0, frames_per_s=0)
        return Config(auth=DEMO_AUTH, limits=limits, security=SecuritySettings(max_malformed_per_minute=0))

    async def _state(self, world: World) -> dict[str, Any]:
        """What a message might have changed: rows, presence, links, events, limits."""
        await world.writer.call(lambda connection: None)
        rows = {
            table: await world.database.read(lambda connection, table=table: connection.execute(sql(f"select * from {table}")).all())
            for table in TABLES
        }
        names = ("test_client_1", "raw-phone", "unique_client_identifier")
        seen = {name: world.gateway.presence.view(name) for name in names}
        views = {name: view and replace(view, last_activity_at=None) for name, view in seen.items()}  # whatever comes is a sign of life
        links = {name: world.gateway.hub.link_of(name) for name in names}
        return {"rows": rows, "views": views, "links": links, "open": len(world.gateway.hub), "waiting": world.writer.rows_waiting}

    @pytest.mark.slow
    @pytest.mark.parametrize("who", ["a stranger", "an agent", "a phone"])
    async def test_a_bad_frame_gets_one_error_with_its_own_uuid_and_changes_nothing(
        self, autojump_clock: MockClock, world: World, who: str
    ):
        """No flip of these makes another message: those that do are messages, and heard as such."""
        bad = [mutant for seed in SEED_FRAMES for mutant in mutants(seed.corrected) if fault_of(mutant) is not None]
        if who == "a stranger":  # a refused CONNECT or REGISTER ends its link: that is its answer
            bad = [mutant for mutant in bad if fault_of(mutant).question.name not in ("connect", "register")]  # type: ignore[union-attr]
        link = RawLink(world.connect())
        if who == "a phone":
            await link.open(head(*PHONE, host=b"localhost"))
            await link.said()
        else:
            await link.open(head(host=b"localhost"))
        if who == "an agent":
            await link.stream.send_all(binary(frame(FrameType.CONNECT, {"client_id": "test_client_1", "auth_token": "test_token_1"})))
            assert isinstance(await link.event(), BytesMessage)
        before = await self._state(world)
        answers: list[bytes] = []

        async def say() -> None:
            for place in range(0, len(bad), 50):
                await link.stream.send_all(b"".join(map(binary, bad[place : place + 50])))
                await trio.sleep(0.0001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            while len(answers) < len(bad):
                event = await link.event()
                assert isinstance(event, BytesMessage), event
                answers.append(bytes(event.data))
        assert len(bad) > 1000
        assert [decode_frame(answer).uuid for answer in answers] == [mutant[2:18] if len(mutant) >= 18 else bytes(16) for mutant in bad]
        assert {json.loads(decode_frame(answer).payload)["status"] for answer in answers} <= {400, 401, 415, 501}
        after = await self._state(world)
        assert after == before
        assert not any(world.metrics.errors.values.values())
        await trio.aclose_forcefully(link.stream)


async def answer_of(link: RawLink) -> Any:
    """The object of the next message, whether it comes in a frame or as text; pings are passed over."""
    while not isinstance(event := await link.event(), BytesMessage | TextMessage):
        assert isinstance(event, Ping), event
    return json.loads(decode_frame(bytes(event.data)).payload if isinstance(event, BytesMessage) else event.data)


BADNESS = {
    "no JSON": text("{"),
    "no object": text("[]"),
    "no type": text("{}"),
    "an unknown type": text('{"type":"no such thing"}'),
    "a wrong field": text('{"type":"heartbeat","data":{"battery_level":"full"}}'),
    "a wrong direction": text('{"type":"send_sms","data":{}}'),
    "an empty text": text(""),
    "an empty frame": binary(b""),
    "a wrong start byte": binary(b"rubbish"),
    "a wrong length": binary(GOLDEN["HEARTBEAT of the seed"][:-1]),
    "no CBOR": binary(encode_frame(FrameType.REPORT, UUID, PayloadKind.CBOR, b"\xff")),
}


@pytest.mark.parametrize("bad", BADNESS.values(), ids=BADNESS.keys())
async def test_ten_bad_messages_in_a_minute_end_the_link_whatever_is_wrong_with_them(autojump_clock: MockClock, world: World, bad: bytes):
    link = RawLink(world.connect())
    await link.open(head(*PHONE, host=b"localhost"))
    await link.said()
    for _ in range(9):
        await link.stream.send_all(bad)
        assert (await answer_of(link)).get("data", {"status": 400})["status"] == 400
    await trio.sleep(60)  # the ninth is a minute old: nine more are borne
    for _ in range(9):
        await link.stream.send_all(bad)
        assert (await answer_of(link)).get("data", {"status": 400})["status"] == 400
    await link.stream.send_all(text('{"type":"heartbeat","request_id":"still here","data":{}}'))
    assert (await answer_of(link))["request_id"] == "still here"
    await link.stream.send_all(bad)
    assert await link.close_code() == 4503
    assert world.metrics.limits.value("security.max_malformed_per_minute") == 1
    await trio.aclose_forcefully(link.stream)


@pytest.mark.parametrize(
    ("fault", "code"),
    [(binary(b"x", reserved=0x40), 1002), (client_frame(1, b"\xff"), 1007), (b"\x82\xff" + (2**40).to_bytes(8, "big"), 1009)],
)
async def test_who_breaks_its_links_five_times_in_a_minute_waits_for_the_next(
    autojump_clock: MockClock, world: World, fault: bytes, code: int
):
    request = head(*PHONE, host=b"localhost")
    for _ in range(5):
        link = RawLink(world.connect())
        await link.open(request)
        await link.said()
        await link.stream.send_all(fault)
        assert await link.close_code() == code
        await trio.aclose_forcefully(link.stream)
        await trio.sleep(1)  # the link has ended over there, too
    assert await status_of(world, request) == 429
    assert world.metrics.limits.value("security.max_offences_per_minute") == 1
    async with world.dial("/ws", phone_headers("neighbour")) as neighbour:
        await hear(neighbour)
    await trio.sleep(60)
    assert await status_of(world, request) == 101


async def test_links_that_are_lost_or_closed_in_order_are_no_offence(autojump_clock: MockClock, world: World):
    request = head(*PHONE, host=b"localhost")
    for payload in (b"", b"\x03\xe8"):
        for _ in range(6):
            link = RawLink(world.connect())
            await link.open(request)
            await link.said()
            if payload:
                await link.stream.send_all(client_frame(8, payload))
                assert await link.close_code() == 1000
            await trio.aclose_forcefully(link.stream)
    assert await status_of(world, request) == 101


async def test_bad_messages_of_one_link_are_not_counted_against_another(autojump_clock: MockClock, world: World):
    async with world.dial() as rough, world.dial() as gentle:
        await connect(rough)
        await connect(gentle, "test_client_2", "test_token_2")
        for _ in range(9):
            await rough.send(b"rubbish")
            await gentle.send(b"rubbish")
        await rough.send(b"rubbish")
        assert await closing(rough) == 4503
        assert world.gateway.hub.link_of("test_client_2") is not None
