"""Phones at the door: who is let in, what they are told first, what they may say (seed 000, CONTRACT §1 to §3)."""

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import protocol.dialect as dialect
from protocol.frame import FrameType
from protocol.payload import PayloadKind
from signal_gateway.config import Config
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.testing.client import NoLink
from signal_gateway.testing.world import World
from signal_gateway.websocket.server_settings import SessionSettings
from tests.storage.reports_filed import filed
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import ask, ask_json, closing, connect, hear, phone_headers, refusal

SETTINGS = {
    "battery_low_threshold": 20,
    "error_count_threshold": 5,
    "offline_threshold_minutes": 5,
    "signal_low_threshold": 2,
    "low_balance_threshold": "10.00",
    "enable_battery_alarms": True,
    "enable_error_alarms": True,
    "enable_offline_alarms": True,
    "enable_signal_alarms": True,
    "enable_sim_balance_alarms": True,
    "auto_disable_sim_on_alarm": False,
    "sim1_daily_sms_limit": 100,
    "sim1_monthly_sms_limit": 1000,
    "sim2_daily_sms_limit": 100,
    "sim2_monthly_sms_limit": 1000,
    "enable_sms_limits": False,
    "sms_limit_reset_hour": 0,
    "sim1_guard_interval": 1,
    "sim2_guard_interval": 1,
}
SMS = {"phone_number": "+905551234567", "message": "hi", "direction": "received", "sim_slot": 0}


async def test_a_phone_is_first_told_its_nineteen_settings(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        said = await phone.receive(1)
        assert isinstance(said, str)
        assert list(json.loads(said)) == ["type", "settings"]
        assert list(json.loads(said)["settings"].items()) == list(SETTINGS.items())
        assert ": " not in said


async def test_the_key_may_come_in_the_query_as_the_seed_has_it(autojump_clock: MockClock, world: World):
    async with world.dial("/ws?api_key=demo-enrolment-key", phone_headers(key=None)) as phone:
        assert (await hear(phone))["type"] == "connection_established"


@pytest.mark.parametrize(
    ("resource", "headers", "status"),
    [
        ("/ws?api_key=wrong", phone_headers(key=None), 401),
        ("/ws", phone_headers(key=None), 401),
        ("/ws", phone_headers(key="wrong"), 401),
        ("/ws?api_key=demo-enrolment-key", {}, 400),
        ("/ws?api_key=demo-enrolment-key", {"Device-Info": "rubbish"}, 400),
        ("/ws?api_key=demo-enrolment-key", {"Device-Info": "{}"}, 400),
        ("/ws", {"Authorization": "Bearer x.y.z"}, 501),
        ("/ws", {"Sec-WebSocket-Protocol": "signal-gateway.v1"}, 501),
        ("/elsewhere", {}, 404),
        ("/ws", {"Origin": "https://evil.example"}, 403),
    ],
)
async def test_who_may_not_in_is_told_before_the_upgrade(
    autojump_clock: MockClock, world: World, resource: str, headers: dict[str, str], status: int
):
    assert await refusal(world, resource, headers) == status


async def test_a_device_stays_with_the_key_that_brought_it(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
    assert await refusal(world, "/ws", phone_headers(key="other-key")) == 401
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)


async def test_a_phone_that_asks_gets_a_key_of_its_own(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers(wants_device_key=True)) as phone:
        key = (await hear(phone))["device_key"]
    assert key.startswith("sgk_")
    async with world.dial("/ws", phone_headers(key=key)) as phone:
        assert "device_key" not in await hear(phone)
    assert await refusal(world, "/ws", phone_headers("phone-2", key=key)) == 401


async def test_too_many_failures_of_one_address_get_429(autojump_clock: MockClock, world: World):
    for number in range(10):
        assert await refusal(world, "/ws", phone_headers(f"phone-{number}", key="wrong")) == 401
    assert await refusal(world, "/ws", phone_headers()) == 429


class TestAHeartbeatThatSaysTheSameAgain:
    """It is answered, counted, rated and filed as any; only what it means was found out before."""

    async def test_is_known_by_its_data_and_is_no_other_s(self, autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch):
        read: list[bytes] = []
        decode = dialect.decode
        monkeypatch.setattr(dialect, "decode", lambda is_text, data, kind: (read.append(data), decode(is_text, data, kind))[1])
        low, high = {"battery_level": 5}, {"battery_level": 90}
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            for number, data in enumerate((high, high, high, low, low, high, high)):
                await trio.sleep(10)
                answer = await ask_json(phone, {"type": "heartbeat", "timestamp": number, "request_id": f"r{number}", "data": data})
                assert answer == {"type": "ack", "request_id": f"r{number}"}
                view = world.gateway.presence.view("phone-1")
                assert view is not None
                assert (view.status.battery_level, view.fresh) == (data["battery_level"], True)
        assert len(read) == 3
        assert world.metrics.messages.value("in", "heartbeat") == world.metrics.messages.value("out", "heartbeat_ack") == 7
        (one,) = await filed(world.database, "heartbeat")
        assert one.data == high

    async def test_follows_what_was_said_in_a_frame_meanwhile(self, autojump_clock: MockClock, world: World):
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            said = {"type": "heartbeat", "request_id": "r", "data": {"battery_level": 90}}
            await ask_json(phone, said)
            await ask(phone, FrameType.REPORT, {"type": "heartbeat", "data": {"battery_level": 5, "network_type": "LTE"}})
            await ask_json(phone, said)
            view = world.gateway.presence.view("phone-1")
            assert view is not None
            assert (view.status.battery_level, view.status.network_type) == (90, "LTE")

    async def test_is_filed_again_when_history_is_to_have_one(self, autojump_clock: MockClock, world: World):
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            for _ in range(62):
                await ask_json(phone, {"type": "heartbeat", "request_id": "r", "data": {"battery_level": 90}})
                await trio.sleep(10)
        assert len(await filed(world.database, "heartbeat")) == 3
        assert world.gateway.reports._spared.value() == 59

    async def test_is_refused_over_the_rate(self, autojump_clock: MockClock, world: World):
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            said = json.dumps({"type": "heartbeat", "request_id": "r", "data": {"battery_level": 90}})
            for _ in range(250):
                await phone.send(said)
            told = [(await hear(phone))["type"] for _ in range(201)]
        assert told.count("ack") == 200
        assert told.count("error") == 1

    async def test_that_fails_ends_that_link_with_1011(self, autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch):
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            said = {"type": "heartbeat", "request_id": "r", "data": {"battery_level": 90}}
            await ask_json(phone, said)
            monkeypatch.setattr(world.gateway.presence, "heard_from", None)
            assert (await ask_json(phone, said))["data"]["status"] == 500
            assert await closing(phone) == 1011


async def test_a_heartbeat_gets_no_answer_and_is_known(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        beat = {"battery_level": 85, "sim_cards": [{"slot_index": 0, "imei": "123456789012345"}], "later_field": 1}
        await phone.send(json.dumps({"type": "heartbeat", "timestamp": 1640995200000, "data": beat}))
        answer = await ask_json(phone, {"type": "heartbeat", "request_id": "r1", "data": {}})
        assert answer == {"type": "ack", "request_id": "r1"}
        view = world.gateway.presence.view("phone-1")
        assert view is not None
        assert (view.linked, view.fresh, view.status.battery_level) == (True, True, 85)
        assert view.status.sim_cards is not None
        imei = view.status.sim_cards[0].imei
        assert imei is not None
        assert imei.last_four == "2345"


async def test_what_cannot_be_is_filed_and_is_not_the_phones_status(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        place = {"latitude": -90, "longitude": 180}
        for battery in (0, 100):
            data = {"battery_level": battery, "sim_cards": [{"slot_index": 0}, {"slot_index": 7}], "location": place}
            await ask_json(phone, {"type": "heartbeat", "request_id": "r1", "data": data})
        known = world.gateway.presence.view("phone-1")
        for battery, slot, latitude, longitude in ((-5, -1, 91, 0), (101, 99, -90.1, 0), (2**31 - 1, 8, 0, 180.1), (-1, -1, 0, -181)):
            off = {"latitude": latitude, "longitude": longitude}
            data = {"battery_level": battery, "sim_cards": [{"slot_index": 7}, {"slot_index": slot}, {"slot_index": 0}], "location": off}
            assert (await ask_json(phone, {"type": "heartbeat", "request_id": "r2", "data": data}))["type"] == "ack"
            await trio.sleep(1)
            assert (await filed(world.database, "heartbeat"))[-1].data == data
        view = world.gateway.presence.view("phone-1")
        assert known is not None
        assert view is not None
        assert (view.status.battery_level, view.status.location) == (100, known.status.location)
        assert view.status.location is not None
        assert [card.slot_index for card in view.status.sim_cards or ()] == [7, 0]


async def test_a_report_is_acknowledged_after_its_commit_and_can_be_found(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        answer = await ask_json(phone, {"type": "sms_message", "timestamp": 7, "request_id": "r2", "data": SMS})
        assert answer == {"type": "ack", "request_id": "r2"}
        found = await filed(world.database, "sms_message")
        assert [(report.device_id, report.data, report.reported_at) for report in found] == [("phone-1", SMS, 7)]


async def test_a_report_in_a_frame_means_the_same(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for kind in (PayloadKind.JSON, PayloadKind.CBOR):
            payload = {"type": "sms_log", "message_id": kind.name, "data": {"phone_number": "+90", "status": "sent"}}
            assert await ask(phone, FrameType.REPORT, payload, kind) == (FrameType.REPORT_ACK, {"status": 200, "message_id": kind.name})
        found = await filed(world.database, "sms_log")
        assert [report.message_id for report in found] == ["JSON", "CBOR"]


@pytest.mark.parametrize(
    ("message", "status", "reason", "field"),
    [
        ({"type": "sms_log", "data": {"phone_number": 7, "status": "sent"}}, 400, "invalid_field", "data.phone_number"),
        ({"type": "sms_log", "data": {"phone_number": "+90", "status": "lost"}}, 400, "invalid_field", "data.status"),
        ({"type": "heartbeat", "data": {"sim_cards": [{"slot_index": "0"}]}}, 400, "invalid_field", "data.sim_cards[0].slot_index"),
        ({"type": "no_such_thing", "data": {}}, 400, "unknown_type", None),
        ({"type": "device:subscribe", "data": {}}, 501, "not_implemented", None),
    ],
)
async def test_what_is_wrong_is_told_and_the_link_stays(
    autojump_clock: MockClock, world: World, message: Any, status: int, reason: str, field: str | None
):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        error = await ask_json(phone, {**message, "request_id": "r3"})
        assert error["type"] == "error"
        said = error["data"]
        assert (said["version"], said["status"], said["reason"], said["request_id"]) == ("1.0.0", status, reason, "r3")
        assert said["ref_type"] == message["type"]
        if field is not None:
            assert field in said["message"]
        assert (await ask_json(phone, {"type": "heartbeat", "request_id": "r4", "data": {}}))["type"] == "ack"


async def test_the_newer_link_wins_and_the_older_one_is_sent_away(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as older:
        await hear(older)
        async with world.dial("/ws", phone_headers()) as newer:
            await hear(newer)
            assert await closing(older) == 4500
            view = world.gateway.presence.view("phone-1")
            assert view is not None
            assert (view.linked, view.generation) == (True, 2)
            assert (await ask_json(newer, {"type": "heartbeat", "request_id": "x", "data": {}}))["type"] == "ack"


class TestNoRoom:
    """A writer that can take nothing more."""

    @pytest.fixture
    def config(self) -> Config:
        return Config(auth=DEMO_AUTH)

    async def test_a_report_that_cannot_be_kept_is_refused_and_not_acknowledged(
        self, autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
    ):
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            monkeypatch.setattr(world.writer, "_has_room_for", lambda rows: False)
            error = await ask_json(phone, {"type": "sms_message", "request_id": "r", "data": SMS})
            assert (error["type"], error["data"]["status"], error["data"]["request_id"]) == ("error", 503, "r")

    @pytest.mark.parametrize(("kind", "data"), [("heartbeat", {"battery_status": "charging"}), ("device_status", {"status": "online"})])
    async def test_a_condition_is_refused_too_and_filed_when_it_is_told_again(
        self, autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, kind: str, data: dict[str, str]
    ):
        """They are acknowledged once the writer has them, and it has them not."""
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            with monkeypatch.context() as patched:
                patched.setattr(world.writer, "_has_room_for", lambda rows: False)
                error = await ask_json(phone, {"type": kind, "request_id": "r", "data": data})
                assert (error["type"], error["data"]["status"], error["data"]["request_id"]) == ("error", 503, "r")
                await phone.send(json.dumps({"type": kind, "data": data}))  # nobody asked
                await trio.sleep(1)
            assert await ask_json(phone, {"type": kind, "request_id": "s", "data": data}) == {"type": "ack", "request_id": "s"}
            await trio.sleep(1)
            assert [report.type for report in await filed(world.database, kind)] == [kind]

    async def test_while_the_writer_is_behind_a_report_waits_and_an_agents_heartbeat_does_not(
        self, autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
    ):
        async with world.dial("/ws", phone_headers()) as phone, world.dial() as agent:
            await hear(phone)
            await connect(agent)
            monkeypatch.setattr(BatchWriter, "above_high_water", property(lambda _: True))
            await phone.send(json.dumps({"type": "sms_message", "request_id": "r", "data": SMS}))
            assert (await ask(agent, FrameType.HEARTBEAT, {"timestamp": 1}))[0] is FrameType.HEARTBEAT_ACK
            started_at = trio.current_time()
            error = await hear(phone)
            assert (error["data"]["status"], error["data"]["reason"]) == (503, "database_down")
            assert trio.current_time() - started_at == pytest.approx(10, abs=0.1)
            assert world.metrics.limits.value("storage.high_water_rows") == 1


class TestRejectNew:
    """`session.duplicate_policy = "reject_new"`."""

    @pytest.fixture
    def config(self) -> Config:
        return Config(auth=DEMO_AUTH, session=SessionSettings(duplicate_policy="reject_new"))

    async def test_the_older_link_wins(self, autojump_clock: MockClock, world: World):
        async with world.dial("/ws", phone_headers()) as older:
            await hear(older)
            assert await refusal(world, "/ws", phone_headers()) == 409
            assert (await ask_json(older, {"type": "heartbeat", "request_id": "x", "data": {}}))["type"] == "ack"

    async def test_of_two_that_come_at_once_one_wins(self, autojump_clock: MockClock, world: World):
        told: list[str] = []

        async def come() -> None:
            try:
                async with world.dial("/ws", phone_headers()) as phone:
                    told.append((await hear(phone))["type"])
                    await trio.sleep(5)
                    assert (await ask_json(phone, {"type": "heartbeat", "request_id": "x", "data": {}}))["type"] == "ack"
            except NoLink as refused:
                told.append(str(refused.status))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(come)
        assert sorted(told) == ["409", "409", "409", "connection_established"]


async def test_a_phone_that_answers_pings_stays_though_it_says_nothing(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await trio.sleep(210)
        assert 9 <= world.metrics.messages.value("in", "pong") <= 10
        view = world.gateway.presence.view("phone-1")
        assert view is not None
        assert (view.linked, view.fresh) == (True, True)


async def test_simulated_phones_live_and_report(autojump_clock: MockClock, world: World):
    phones = [world.phone(number) for number in range(3)]
    for phone in phones:
        await world.links.start(phone.live)
    await trio.sleep(300)
    for phone in phones:
        await phone.report_sms()
    assert world.numbers.links == 3
    assert 30 <= world.numbers.sent["heartbeat"] <= 36
    assert len(await filed(world.database, "sms_message")) == 3
    assert not world.numbers.failures
