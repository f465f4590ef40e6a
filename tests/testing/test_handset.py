"""What a simulated phone does with commands, and what it says of it."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.testing.behaviour import BEHAVIOURS, FLAWLESS, ROUGH, Behaviour
from signal_gateway.testing.handset import Dialled, Effect, Handset, Rang, SentSms
from signal_gateway.testing.sim_card import LIMIT_EXCEEDED, NETWORK_ERROR, SIM_ABSENT, SimulatedSim

NUMBER = "+905559990000"


class Desk:
    """A handset, and all that it said and did, each with its time."""

    def __init__(self, nursery: trio.Nursery, behaviour: Behaviour = FLAWLESS, sims: int = 2) -> None:
        self.said: list[tuple[float, str, Mapping[str, Any]]] = []
        self.effects: list[Effect] = []
        self.restarts: list[float] = []
        self.begun_at = trio.current_time()
        cards = [SimulatedSim(slot, "Turkcell", f"+90555000000{slot}") for slot in range(sims)]
        self.handset = Handset("phone-1", cards, Random(1), self.wall_ms, self.report, self.restarts.append, self.effects.append, behaviour)
        self.handset.work_in(nursery)

    def wall_ms(self) -> int:
        return round(1000 * self.now_s())

    def now_s(self) -> float:
        return trio.current_time() - self.begun_at

    async def report(self, kind: str, data: Mapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        self.said.append((self.now_s(), kind, data))

    def tell(self, kind: str, message_id: str | None = None, **data: Any) -> None:
        command: dict[str, Any] = {"type": kind, "data": data}
        if message_id is not None:
            command["message_id"] = message_id
        self.handset.obey(kind, command)

    def sms(self, message_id: str = "m1", sim_slot: int = 0, message: str = "hello") -> None:
        self.tell("send_sms", message_id, sim_slot=sim_slot, phone_number=NUMBER, message=message, priority="normal")

    def kinds(self) -> list[str]:
        return [kind if "status" not in data else f"{kind} {data['status']}" for _, kind, data in self.said]


async def test_an_sms_goes_out_is_reported_without_an_id_and_then_delivered(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery)
    desk.sms()
    await trio.sleep(10)
    assert desk.handset.sent == [SentSms("m1", 0, NUMBER, "hello", 0)]
    assert desk.effects == [Effect("send_sms", "phone-1", "m1", 0, 0, "hello", 1)]
    (log_at, kind, log), (delivered_at, _, delivery) = desk.said
    assert (log_at, kind) == (0, "sms_log")
    assert log == {"sim_slot": 0, "phone_number": NUMBER, "message": "hello", "status": "sent", "segments": 1}
    assert 0.5 <= delivered_at <= 1.5
    assert (delivery["message_id"], delivery["status"], "part" in delivery) == ("m1", "delivered", False)


async def test_one_thing_at_a_time_is_done_by_each_sim_and_in_order(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery, replace(FLAWLESS, send_s=(10, 10), delivery_chance=0))
    desk.handset.settings = {"sim1_guard_interval": 0}
    for number in range(3):
        desk.sms(f"first-{number}", 0)
    desk.sms("second", 1)
    await trio.sleep(100)
    assert [(sent.message_id, sent.at) for sent in desk.handset.sent if sent.sim_slot == 0] == [
        ("first-0", 10_000),
        ("first-1", 20_000),
        ("first-2", 30_000),
    ]
    assert [(sent.message_id, sent.at) for sent in desk.handset.sent if sent.sim_slot == 1] == [("second", 10_000)]


async def test_the_phone_waits_out_its_own_guard_interval_and_keeps_its_own_limits(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery, replace(FLAWLESS, delivery_chance=0))
    desk.handset.settings = {"enable_sms_limits": True, "sim1_daily_sms_limit": 2, "sim1_guard_interval": 30}
    for number in range(3):
        desk.sms(f"m{number}")
    await trio.sleep(100)
    assert [sent.at for sent in desk.handset.sent] == [0, 30_000]
    assert desk.handset.refused == [("m2", LIMIT_EXCEEDED)]
    assert desk.said[-1][1:] == ("sms_log", desk.said[-1][2])
    assert (desk.said[-1][2]["status"], desk.said[-1][2]["error_code"]) == ("failed", LIMIT_EXCEEDED)


@pytest.mark.parametrize(
    ("behaviour", "code", "kinds"),
    [
        (replace(FLAWLESS, network_error_chance=1), NETWORK_ERROR, ["sms_log failed"]),
        (replace(FLAWLESS, sim_error_chance=1), SIM_ABSENT, ["sms_log failed", "alarm"]),
        (replace(FLAWLESS, price_per_segment=Decimal(13)), NETWORK_ERROR, ["sms_log failed"]),
    ],
)
async def test_what_cannot_be_sent_is_reported_and_has_no_effect(
    autojump_clock: MockClock, nursery: trio.Nursery, behaviour: Behaviour, code: int, kinds: list[str]
):
    desk = Desk(nursery, behaviour)
    desk.sms()
    await trio.sleep(10)
    assert desk.kinds() == kinds
    assert (desk.said[0][2]["error_code"], desk.handset.sent, desk.effects) == (code, [], [])


async def test_a_sim_that_is_not_there_is_a_sim_error(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery, sims=1)
    desk.sms(sim_slot=1)
    await trio.sleep(10)
    assert desk.said[0][2]["error_code"] == SIM_ABSENT


@pytest.mark.parametrize("deduplicates", [False, True])
async def test_what_comes_twice_is_done_twice_unless_the_phone_knows_ids(
    autojump_clock: MockClock, nursery: trio.Nursery, deduplicates: bool
):
    desk = Desk(nursery, replace(FLAWLESS, deduplicates=deduplicates, delivery_chance=0))
    desk.sms()
    await trio.sleep(10)
    desk.sms()
    await trio.sleep(10)
    assert len(desk.handset.sent) == (1 if deduplicates else 2)
    assert desk.kinds() == ["sms_log sent"] * 2


async def test_each_part_of_a_long_sms_has_its_own_report(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery)
    desk.sms(message="x" * 400)
    await trio.sleep(60)
    assert [(data["part"], data["parts"]) for _, kind, data in desk.said if kind == "sms_delivery_report"] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("behaviour", "statuses"),
    [
        (replace(FLAWLESS, delivery_chance=0), []),
        (replace(FLAWLESS, delivery_twice_chance=1), ["delivered", "delivered"]),
        (replace(FLAWLESS, delivery_pending_chance=1), ["pending", "delivered"]),
        (replace(FLAWLESS, delivery_failed_chance=1), ["failed"]),
        (replace(FLAWLESS, delivery_s=(3600, 3600)), []),
    ],
)
async def test_delivery_reports_come_late_twice_or_never(
    autojump_clock: MockClock, nursery: trio.Nursery, behaviour: Behaviour, statuses: list[str]
):
    desk = Desk(nursery, behaviour)
    desk.sms()
    await trio.sleep(600)
    assert [data["status"] for _, kind, data in desk.said if kind == "sms_delivery_report"] == statuses


async def test_an_answer_may_be_lost_though_the_thing_was_done(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery, replace(FLAWLESS, answer_lost_chance=1, delivery_chance=0))
    desk.sms()
    await trio.sleep(10)
    assert (len(desk.handset.sent), desk.said) == (1, [])


async def test_a_phone_that_restarts_forgets_what_waited_for_a_sim_and_nothing_that_was_done(
    autojump_clock: MockClock, nursery: trio.Nursery
):
    desk = Desk(nursery, replace(FLAWLESS, restart_chance=1, restart_s=(40, 40), send_s=(5, 5), delivery_chance=0))
    for number in range(3):
        desk.sms(f"m{number}")
    await trio.sleep(60)
    assert [sent.message_id for sent in desk.handset.sent] == ["m0"]
    assert desk.restarts == [40]
    assert desk.kinds() == ["sms_log sent"]
    desk.handset.behaviour = FLAWLESS
    desk.sms("m3")
    await trio.sleep(60)
    assert desk.handset.sent[-1].message_id == "m3"


async def test_a_balance_is_read_by_ussd(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery)
    desk.tell("send_ussd", "u1", sim_slot=0, ussd_code="*123#", delay=30)
    await trio.sleep(100)
    ((at, kind, said),) = desk.said
    assert (at, kind) == (30, "ussd_response")
    assert (said["response"], said["is_menu"], said["message_id"]) == ("Bakiyeniz 12,50 TL", False, "u1")
    assert desk.handset.dialled == [Dialled("u1", 0, "*123#", 30_000)]


async def test_a_menu_is_ended_after_two_seconds_unless_it_is_to_stay_open(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery)
    desk.tell("send_ussd", "u1", sim_slot=0, ussd_code="*100#", session_id="s1", delay=0)
    await trio.sleep(10)
    assert [(at, kind) for at, kind, _ in desk.said] == [(0, "ussd_response"), (2, "ussd_cancelled")]
    assert desk.said[1][2] == {
        "session_id": "s1",
        "message_id": "u1",
        "ussd_code": "*100#",
        "sim_slot": 0,
        "status": "CANCELLED",
        "reason": "auto_cancel_menu",
    }
    desk.tell("ussd_reply", "u2", sim_slot=0, session_id="s1", reply="1")
    await trio.sleep(10)
    assert (desk.said[2][1], desk.said[2][2]["failure_code"], desk.said[2][2]["status"]) == ("ussd_response_failed", 5, "TIMEOUT")


async def test_a_menu_that_stays_open_is_answered_down_to_its_last_word(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery)
    desk.tell("send_ussd", "u1", sim_slot=1, ussd_code="*100#", session_id="s1", delay=0, auto_cancel=False)
    await trio.sleep(60)
    for number, reply in enumerate(("2", "1")):
        desk.tell("ussd_reply", f"r{number}", sim_slot=1, session_id="s1", reply=reply)
        await trio.sleep(60)
    assert [(kind, data["is_menu"]) for _, kind, data in desk.said] == [
        ("ussd_response", True),
        ("ussd_response", True),
        ("ussd_response", False),
    ]
    assert [dialled.code for dialled in desk.handset.dialled] == ["*100#", "2", "1"]


@pytest.mark.parametrize(("code", "behaviour", "failure"), [("*555#", FLAWLESS, 2), ("*123#", replace(FLAWLESS, ussd_failure_chance=1), 7)])
async def test_a_ussd_code_that_fails_says_why_and_has_no_effect(
    autojump_clock: MockClock, nursery: trio.Nursery, code: str, behaviour: Behaviour, failure: int
):
    desk = Desk(nursery, replace(behaviour, ussd_failure_codes=(7,)))
    desk.tell("send_ussd", "u1", sim_slot=0, ussd_code=code, delay=0)
    await trio.sleep(10)
    assert (desk.said[0][2]["failure_code"], desk.handset.dialled, desk.effects) == (failure, [], [])


async def test_the_phone_rings_until_it_is_told_to_stop(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery)
    desk.tell("find_device", message="here")
    desk.tell("alarm_start", alarm_type="battery_low", message="low")
    await trio.sleep(1)
    assert desk.handset.is_ringing
    desk.handset.obey("alarm_stop", {"type": "alarm_stop"})
    await trio.sleep(1)
    assert not desk.handset.is_ringing
    assert desk.kinds() == ["find_device_success success", "alarm_started started", "alarm_stopped stopped"]
    assert desk.handset.rang == [Rang("find_device", 0), Rang("alarm_start", 0), Rang("alarm_stop", 1000)]
    desk.handset.behaviour = replace(FLAWLESS, ring_failure_chance=1)
    desk.tell("find_device", message="here")
    await trio.sleep(1)
    assert desk.kinds()[-1] == "find_device_failed failed"


async def test_rcs_has_its_own_log_and_what_is_unknown_is_ignored(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery, replace(FLAWLESS, names_message_chance=1))
    desk.tell("send_rcs", "r1", sim_slot=0, phone_number=NUMBER, message="hi", message_type="text")
    desk.tell("make_coffee", "c1")
    await trio.sleep(0.4)
    assert [(kind, data["message_id"]) for _, kind, data in desk.said] == [("rcs_log", "r1")]
    assert [sent.message_id for sent in desk.handset.sent_rcs] == ["r1"]


async def test_an_rcs_message_is_told_as_delivered_and_read_or_as_not_delivered(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery, replace(FLAWLESS, read_chance=1))
    desk.tell("send_rcs", "r1", sim_slot=0, phone_number=NUMBER, message="hi", message_type="text")
    await trio.sleep(5)
    assert desk.kinds() == ["rcs_log sent", "rcs_log delivered", "rcs_log read"]
    desk.handset.behaviour = replace(FLAWLESS, read_chance=1, delivery_failed_chance=1)
    desk.tell("send_rcs", "r2", sim_slot=0, phone_number=NUMBER, message="hi", message_type="text")
    await trio.sleep(5)
    assert desk.kinds()[3:] == ["rcs_log sent", "rcs_log failed"]
    assert desk.said[-1][2]["delivery_report"] is True


async def test_a_phone_of_the_seed_reports_each_part_and_numbers_none(autojump_clock: MockClock, nursery: trio.Nursery):
    desk = Desk(nursery, replace(FLAWLESS, numbers_parts=False))
    desk.tell("send_sms", "m1", sim_slot=0, phone_number=NUMBER, message="x" * 400)
    await trio.sleep(10)
    assert desk.kinds() == ["sms_log sent", *["sms_delivery_report delivered"] * 3]
    reports = [data for _, kind, data in desk.said if kind == "sms_delivery_report"]
    assert all("part" not in data for data in reports)
    assert len({data["timestamp"] for data in reports}) == 3


def test_presets_are_named_as_the_command_line_names_them_and_get_rougher():
    assert list(BEHAVIOURS) == ["perfect", "real-life", "rough"]
    assert BEHAVIOURS["perfect"] == Behaviour()
    assert ROUGH.network_error_chance > BEHAVIOURS["real-life"].network_error_chance > 0
