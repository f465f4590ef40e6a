"""What a simulated SIM lets its phone send."""

from decimal import Decimal
from typing import Any

import pytest

from signal_gateway.testing.sim_card import LIMIT_EXCEEDED, NETWORK_ERROR, SIM_ABSENT, SimulatedSim

DAY_MS = 86_400_000
NEW_YEAR_MS = 1_767_225_600_000
LIMITED: dict[str, Any] = {
    "enable_sms_limits": True,
    "sim1_daily_sms_limit": 3,
    "sim1_monthly_sms_limit": 5,
    "sim2_daily_sms_limit": 1,
    "sim2_monthly_sms_limit": 1,
}


def sim(slot: int = 0) -> SimulatedSim:
    return SimulatedSim(slot, "Turkcell", "+905551112233")


def test_a_sim_is_made_of_what_a_heartbeat_tells_of_it():
    card = {"slot_index": 1, "carrier_name": "Vodafone", "phone_number": "+905550000001", "is_active": False}
    made = SimulatedSim.of_card(card)
    assert (made.slot, made.carrier, made.number, made.is_blocked) == (1, "Vodafone", "+905550000001", True)


def test_segments_count_against_the_day_and_a_new_day_begins_at_the_reset_hour():
    card, settings = sim(), {**LIMITED, "sms_limit_reset_hour": 6}
    card.send(settings, 2, NEW_YEAR_MS)
    assert card.refusal(settings, 1, NEW_YEAR_MS) is None
    assert card.refusal(settings, 2, NEW_YEAR_MS) == LIMIT_EXCEEDED
    six_hours_ms = 6 * 3_600_000
    assert card.refusal(settings, 2, NEW_YEAR_MS + six_hours_ms - 1) == LIMIT_EXCEEDED
    assert card.refusal(settings, 2, NEW_YEAR_MS + six_hours_ms) is None


def test_the_month_has_a_limit_of_its_own():
    card = sim()
    for day in (0, 1):
        card.send(LIMITED, 2, NEW_YEAR_MS + day * DAY_MS)
    assert card.refusal(LIMITED, 2, NEW_YEAR_MS + 2 * DAY_MS) == LIMIT_EXCEEDED
    assert card.refusal(LIMITED, 1, NEW_YEAR_MS + 2 * DAY_MS) is None
    assert card.refusal(LIMITED, 3, NEW_YEAR_MS + 31 * DAY_MS) is None


@pytest.mark.parametrize("slot", [1, 2])
def test_the_second_sim_and_a_third_have_the_second_limits(slot: int):
    card = sim(slot)
    card.send(LIMITED, 1, NEW_YEAR_MS)
    assert card.refusal(LIMITED, 1, NEW_YEAR_MS) == LIMIT_EXCEEDED


def test_limits_that_are_not_switched_on_do_not_hold():
    card = sim()
    card.send({**LIMITED, "enable_sms_limits": False}, 50, NEW_YEAR_MS)
    assert card.refusal({**LIMITED, "enable_sms_limits": False}, 50, NEW_YEAR_MS) is None
    assert card.refusal({}, 50, NEW_YEAR_MS) is None


def test_between_two_messages_the_guard_interval_passes_whatever_the_clock_does():
    card, settings = sim(), {"sim1_guard_interval": 7}
    assert card.guard_left_s(settings, NEW_YEAR_MS) == 0
    card.send(settings, 1, NEW_YEAR_MS)
    assert card.guard_left_s(settings, NEW_YEAR_MS + 2000) == 5
    assert card.guard_left_s(settings, NEW_YEAR_MS + 7000) == 0
    assert card.guard_left_s(settings, NEW_YEAR_MS - DAY_MS) == 7


def test_what_is_sent_is_paid_for_until_nothing_is_left():
    card = SimulatedSim(0, "Turkcell", "+905551112233", balance=Decimal("0.25"), price_per_segment=Decimal("0.10"))
    card.send({}, 2, NEW_YEAR_MS)
    assert card.balance == Decimal("0.05")
    assert card.refusal({}, 1, NEW_YEAR_MS) == NETWORK_ERROR


def test_without_a_network_or_a_sim_nothing_goes_out():
    card = sim()
    card.is_served = False
    assert card.refusal({}, 1, NEW_YEAR_MS) == NETWORK_ERROR
    card.is_blocked = True
    assert card.refusal({}, 1, NEW_YEAR_MS) == SIM_ABSENT
