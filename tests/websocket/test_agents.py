"""Agents at the door: CONNECT, REGISTER, UNREGISTER and heartbeats, in frames and in JSON (seed 003, CONTRACT §2)."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType, encode_frame
from protocol.payload import PayloadKind
from signal_gateway.config import Config
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.testing.world import WORLD_BEGINS_MS, World
from signal_gateway.websocket.server_settings import SessionSettings
from tests.storage.reports_filed import filed
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import UUID, ask, ask_json, closing, connect, frame, hear

REGISTER = {
    "version": "1.0.0",
    "client_id": "unit-7",
    "auth_token": "demo-enrolment-key",
    "capabilities": ["websocket", "heartbeat"],
    "metadata": {"platform": "mcu"},
}
UNREGISTER = {"version": "1.0.0", "client_id": "unit-7", "auth_token": "demo-enrolment-key"}
# The four frames of seed 003, their lengths corrected (C-01).
SEED_HEARTBEAT = bytes.fromhex("AA04550E8400E29B41D4A71644665544000202001B7B2274696D657374616D70223A313730343036373230303030307D")
SEED_REGISTER_PAYLOAD = (
    b'{"version":"1.0.0","client_id":"unique_client_identifier","auth_token":"authentication_token",'
    b'"capabilities":["websocket","heartbeat","webrtc"],"metadata":{"platform":"web","version":"1.0.0"}}'
)
SEED_UNREGISTER_PAYLOAD = b'{"version":"1.0.0","client_id":"unique_client_identifier","auth_token":"authentication_token"}'


async def test_connect_proves_who_a_link_is(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        answer = await connect(agent)
        session_id = answer.pop("session_id")
        assert len(session_id) == 36
        assert answer.pop("limits")["control_per_min"] == 100
        assert WORLD_BEGINS_MS <= answer.pop("server_time") <= WORLD_BEGINS_MS + 1000
        assert answer == {"version": "1.0.0", "status": 200, "message": "Connected", "client_id": "test_client_1", "heartbeat_interval": 30}


@pytest.mark.parametrize(
    ("client_id", "token"), [("test_client_1", "wrong"), ("nobody", "test_token_1"), ("test_client_1", "test_token_2")]
)
async def test_a_wrong_token_is_refused_in_the_ack_and_ends_the_link(autojump_clock: MockClock, world: World, client_id: str, token: str):
    async with world.dial() as agent:
        answer = await connect(agent, client_id, token)
        assert answer["status"] == 401
        assert answer["message"] == "Invalid client_id or auth_token"
        assert answer["client_id"] is None
        assert answer["session_id"] is None
        assert await closing(agent) == 4501


async def test_on_an_authenticated_link_a_refused_register_changes_nothing(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        answer_type, answer = await ask(agent, FrameType.REGISTER, {**REGISTER, "client_id": "test_client_1", "auth_token": "wrong"})
        assert (answer_type, answer["status"]) == (FrameType.REGISTER_ACK, 401)
        assert (await ask(agent, FrameType.HEARTBEAT, {"timestamp": 1}))[1] == {"timestamp": 1}


async def test_before_authentication_all_else_is_401_and_the_link_waits(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        for frame_type, payload in (
            (FrameType.HEARTBEAT, {"timestamp": 1}),
            (FrameType.UNREGISTER, UNREGISTER),
            (FrameType.TELEMETRY, {}),
        ):
            answer_type, answer = await ask(agent, frame_type, payload)
            assert answer_type is FrameType.ERROR
            assert (answer["status"], answer["reason"], answer["ref_type"]) == (401, "not_authenticated", frame_type)
        assert (await connect(agent))["status"] == 200


async def test_a_link_that_does_not_say_who_it_is_ends_after_five_seconds(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        started_at = trio.current_time()
        answer_type, uuid, _, answer = await hear(agent)
        assert (answer_type, uuid, answer["status"]) == (FrameType.ERROR, bytes(16), 401)
        assert await closing(agent) == 4501
        assert 5.0 <= trio.current_time() - started_at <= 6.1


@pytest.mark.parametrize("kind", [PayloadKind.JSON, PayloadKind.CBOR])
async def test_a_heartbeat_is_answered_with_its_own_uuid_and_timestamp(autojump_clock: MockClock, world: World, kind: PayloadKind):
    async with world.dial() as agent:
        await connect(agent)
        assert await ask(agent, FrameType.HEARTBEAT, {"timestamp": 1704067200000}, kind) == (
            FrameType.HEARTBEAT_ACK,
            {"timestamp": 1704067200000},
        )


async def test_the_seeds_heartbeat_corrected_byte_for_byte(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        await agent.send(SEED_HEARTBEAT)
        assert await agent.receive(1) == SEED_HEARTBEAT[:1] + b"\x05" + SEED_HEARTBEAT[2:]


async def test_the_seeds_heartbeat_as_printed_is_refused_naming_both_lengths(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        await agent.send(SEED_HEARTBEAT.replace(b"\x00\x1b", b"\x00\x18", 1))
        answer_type, uuid, _, answer = await hear(agent)
        assert (answer_type, uuid) == (FrameType.ERROR, UUID)
        assert (answer["status"], answer["reason"]) == (400, "length_mismatch")
        assert "24" in answer["message"]
        assert "27" in answer["message"]


async def test_the_seeds_register_is_401_where_keys_are_needed(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await agent.send(encode_frame(FrameType.REGISTER, UUID, PayloadKind.JSON, SEED_REGISTER_PAYLOAD))
        answer = await agent.receive(1)
        assert answer == encode_frame(
            FrameType.REGISTER_ACK,
            UUID,
            PayloadKind.JSON,
            b'{"version":"1.0.0","status":401,"message":"Invalid client_id or auth_token","client_id":null,"session_id":null}',
        )


class TestOpenRegistration:
    """`auth.registration = "open"`."""

    @pytest.fixture
    def config(self) -> Config:
        return Config(auth=AuthSettings(registration="open"))

    async def test_the_seeds_frames_are_200(self, autojump_clock: MockClock, world: World):
        async with world.dial() as agent:
            await agent.send(encode_frame(FrameType.REGISTER, UUID, PayloadKind.JSON, SEED_REGISTER_PAYLOAD))
            answer_type, _, _, answer = await hear(agent)
            session_id = answer.pop("session_id")
            assert len(session_id) == 36
            assert answer_type is FrameType.REGISTER_ACK
            assert answer == {
                "version": "1.0.0",
                "status": 200,
                "message": "Registration successful",
                "client_id": "unique_client_identifier",
            }
            await agent.send(encode_frame(FrameType.UNREGISTER, UUID, PayloadKind.JSON, SEED_UNREGISTER_PAYLOAD))
            assert await agent.receive(1) == encode_frame(
                FrameType.UNREGISTER_ACK,
                UUID,
                PayloadKind.JSON,
                b'{"version":"1.0.0","status":200,"message":"Unregistration successful","client_id":"unique_client_identifier"}',
            )


async def test_register_again_with_the_same_token_is_the_same_record(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        for _ in range(2):
            answer_type, answer = await ask(agent, FrameType.REGISTER, REGISTER)
            assert (answer_type, answer["status"], answer["client_id"]) == (FrameType.REGISTER_ACK, 200, "unit-7")
    async with world.dial() as agent:
        assert (await connect(agent, "unit-7", "demo-enrolment-key"))["status"] == 200


async def test_a_known_id_with_another_valid_token_is_409(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await ask(agent, FrameType.REGISTER, REGISTER)
    async with world.dial() as agent:
        _, answer = await ask(agent, FrameType.REGISTER, {**REGISTER, "auth_token": "other-key"})
        assert (answer["status"], answer["message"], answer["client_id"]) == (409, "Client id already exists", None)


@pytest.mark.parametrize("field", ["version", "client_id", "auth_token"])
@pytest.mark.parametrize(("frame_type", "payload"), [(FrameType.REGISTER, REGISTER), (FrameType.UNREGISTER, UNREGISTER)])
async def test_fields_are_checked_before_tokens(
    autojump_clock: MockClock, world: World, frame_type: FrameType, payload: dict[str, Any], field: str
):
    async with world.dial() as agent:
        await connect(agent)
        wrong = {**payload, "auth_token": "wrong", field: ""}
        _, answer = await ask(agent, frame_type, wrong)
        assert (answer["status"], answer["message"], answer["client_id"]) == (400, f"Missing or invalid '{field}' field", None)


async def test_unregister_forgets_the_record_and_closes_the_clients_other_link(autojump_clock: MockClock, world: World):
    async with world.dial() as agent, world.dial() as other:
        await ask(agent, FrameType.REGISTER, REGISTER)
        await connect(other)
        _, answer = await ask(other, FrameType.UNREGISTER, UNREGISTER)
        assert answer == {"version": "1.0.0", "status": 200, "message": "Unregistration successful", "client_id": "unit-7"}
        assert await closing(agent) == 1000


@pytest.mark.parametrize(
    ("payload", "status", "message"),
    [
        ({"version": "1.0.0", "client_id": "test_client_1", "auth_token": "test_token_1"}, 404, "Client not found"),
        ({"version": "1.0.0", "client_id": "test_client_1", "auth_token": "wrong"}, 401, "Invalid client_id or auth_token"),
        ({"version": "1.0.0", "client_id": "nobody", "auth_token": "test_token_1"}, 401, "Invalid client_id or auth_token"),
    ],
)
async def test_unregister_refuses_in_the_words_of_the_seed(
    autojump_clock: MockClock, world: World, payload: Any, status: int, message: str
):
    async with world.dial() as agent:
        await connect(agent)
        assert await ask(agent, FrameType.UNREGISTER, payload) == (
            FrameType.UNREGISTER_ACK,
            {"version": "1.0.0", "status": status, "message": message, "client_id": None},
        )


async def test_text_and_binary_on_one_link_are_each_answered_in_kind(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        answer = await ask_json(agent, {"type": "register", "request_id": "r1", "data": REGISTER})
        assert (answer["type"], answer["request_id"], answer["data"]["status"]) == ("register_ack", "r1", 200)
        assert (await ask(agent, FrameType.HEARTBEAT, {"timestamp": 5}))[1] == {"timestamp": 5}
        answer = await ask_json(agent, {"type": "heartbeat", "request_id": "r2", "data": {"timestamp": 6}})
        assert answer == {"type": "heartbeat_ack", "request_id": "r2", "data": {"timestamp": 6}}


async def test_an_agent_may_report_as_a_phone_does(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        report = {"type": "alarm", "data": {"alarm_type": "battery_low", "severity": "warning"}}
        assert (await ask(agent, FrameType.REPORT, report))[1] == {"status": 200}
        found = await filed(world.database)
        assert [(one.device_id, one.type, one.data) for one in found] == [("test_client_1", "alarm", report["data"])]


@pytest.mark.parametrize("frame_type", [FrameType.TELEMETRY, FrameType.SUBSCRIBE])
async def test_what_is_not_served_yet_is_501(autojump_clock: MockClock, world: World, frame_type: FrameType):
    async with world.dial() as agent:
        await connect(agent)
        payload = {"token": "t"}
        answer_type, answer = await ask(agent, frame_type, payload)
        assert (answer_type, answer["status"], answer["reason"]) == (FrameType.ERROR, 501, "not_implemented")


async def test_an_unknown_type_and_an_unknown_payload_kind_are_answered(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        await agent.send(b"\xaa\x7e" + UUID + b"\x02\x00\x02{}")
        answer = (await hear(agent))[3]
        assert (answer["status"], answer["reason"]) == (400, "unknown_type")
        await agent.send(b"\xaa\x04" + UUID + b"\x09\x00\x02{}")
        _, uuid, kind, answer = await hear(agent)
        assert (uuid, kind, answer["status"], answer["reason"]) == (UUID, PayloadKind.JSON, 415, "unknown_payload_type")
        await agent.send(b"\xaa\x04" + UUID + b"\x04\x00\x02{}")
        answer = (await hear(agent))[3]
        assert (answer["status"], answer["reason"]) == (415, "protobuf_not_built")


async def test_ten_malformed_messages_in_a_minute_end_the_link(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        for _ in range(10):
            await agent.send(b"rubbish")
        assert await closing(agent) == 4503
        assert world.metrics.limits.value("security.max_malformed_per_minute") == 1


async def test_nine_malformed_messages_a_minute_are_borne_for_ever(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        for _ in range(3):
            for _ in range(9):
                await agent.send(b"rubbish")
                assert (await hear(agent))[0] is FrameType.ERROR
            await trio.sleep(61)
        assert (await ask(agent, FrameType.HEARTBEAT, {"timestamp": 1}))[0] is FrameType.HEARTBEAT_ACK


async def test_over_its_rate_a_client_is_told_once_a_second_and_heard_again_later(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        for _ in range(150):
            await agent.send(frame(FrameType.UNREGISTER, {**UNREGISTER, "client_id": "nobody"}))
        kinds = []
        with trio.move_on_after(5):
            while True:
                answer_type, _, _, answer = await hear(agent)
                kinds.append((answer_type, answer["status"]))
        told = [kind for kind in kinds if kind[0] is FrameType.ERROR]
        assert told == [(FrameType.ERROR, 429)]
        assert 90 <= len(kinds) - len(told) <= 101


async def test_the_newer_link_wins_and_the_older_is_told_never_to_come_back(autojump_clock: MockClock, world: World):
    async with world.dial() as older, world.dial() as newer:
        await connect(older)
        assert (await connect(newer))["status"] == 200
        answer_type, _, _, goodbye = await hear(older)
        assert answer_type is FrameType.DISCONNECT
        assert (goodbye["code"], goodbye["reconnect"]) == (4500, False)
        assert await closing(older) == 4500


async def test_a_link_speaks_for_one_client_only(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        answer = await connect(agent, "test_client_2", "test_token_2")
        assert answer["status"] == 409
        assert world.gateway.hub.link_of("test_client_2") is None


async def test_a_client_that_says_disconnect_is_closed_with_1000(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        await agent.send(frame(FrameType.DISCONNECT, {"version": "1.0.0", "code": 1000, "reason": "bye"}))
        assert await closing(agent) == 1000


async def test_a_revoked_key_ends_its_links_within_five_seconds(autojump_clock: MockClock, world: World):
    credential_id, key = await world.gateway.credentials.create(kind=_client_kind(), client_id="unit-9")
    async with world.dial() as agent:
        assert (await connect(agent, "unit-9", key))["status"] == 200
        started_at = trio.current_time()
        await world.gateway.credentials.revoke(credential_id)
        assert await closing(agent) == 4501
        assert trio.current_time() - started_at <= 5


def _client_kind() -> Any:
    from signal_gateway.domain.credential import CredentialKind

    return CredentialKind.CLIENT


async def test_an_agent_that_registered_is_known_after_a_restart(autojump_clock: MockClock, world: World):
    from signal_gateway.testing.world import open_world

    async with world.dial() as agent:
        await ask(agent, FrameType.REGISTER, REGISTER)
    async with open_world(Config(auth=DEMO_AUTH), database=world.database) as again, again.dial() as agent:
        assert (await connect(agent, "unit-7", "demo-enrolment-key"))["status"] == 200


class TestRejectNew:
    """`session.duplicate_policy = "reject_new"`."""

    @pytest.fixture
    def config(self) -> Config:
        return Config(auth=DEMO_AUTH, session=SessionSettings(duplicate_policy="reject_new"))

    async def test_the_older_link_wins_and_only_who_has_the_token_learns_of_it(self, autojump_clock: MockClock, world: World):
        async with world.dial() as older, world.dial() as newer, world.dial() as stranger:
            await connect(older)
            assert (await connect(stranger, token="wrong"))["status"] == 401
            assert (await connect(newer))["status"] == 409
            assert await closing(newer) == 4002
            assert (await ask(older, FrameType.HEARTBEAT, {"timestamp": 1}))[0] is FrameType.HEARTBEAT_ACK
