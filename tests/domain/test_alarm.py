"""What a heartbeat says about alarms: thresholds, the way back, flags, slots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from signal_gateway.domain.alarm import AlarmType, Hysteresis, Reading, Severity, readings
from signal_gateway.domain.device import DeviceStatus, SimCard
from signal_gateway.domain.phone_settings import PhoneSettings

DEFAULTS, BACK = PhoneSettings(), Hysteresis()


def said(status: DeviceStatus, settings: PhoneSettings = DEFAULTS, back: Hysteresis = BACK) -> list[tuple[str, int | None, bool, str]]:
    return [(each.type.value, each.sim_slot, each.is_raised, each.severity.value) for each in readings(status, settings, back)]


@pytest.mark.parametrize(
    ("level", "reading"),
    [(0, "critical"), (5, "critical"), (6, "warning"), (19, "warning"), (20, None), (24, None), (25, "cleared"), (100, "cleared")],
)
def test_a_battery_between_its_threshold_and_the_way_back_says_nothing(level: int, reading: str | None):
    found = said(DeviceStatus(battery_level=level))
    assert found == (
        [] if reading is None else [("battery_low", None, reading != "cleared", "warning" if reading == "cleared" else reading)]
    )


@pytest.mark.parametrize(("bars", "reading"), [(-1, "error"), (0, "error"), (1, "warning"), (2, "cleared"), (4, "cleared")])
def test_a_signal_at_its_threshold_is_well(bars: int, reading: str):
    assert said(DeviceStatus(signal_strength=bars)) == [
        ("signal_low", None, reading != "cleared", "warning" if reading == "cleared" else reading)
    ]


def test_more_bars_may_be_asked_for_on_the_way_back():
    assert [len(said(DeviceStatus(signal_strength=bars), back=Hysteresis(5, 3))) for bars in range(5)] == [1, 1, 0, 0, 1]


@given(st.integers(0, 100), st.integers(0, 4), st.integers(0, 100), st.integers(0, 5))
def test_the_best_value_always_clears(threshold: int, bars: int, percent: int, above: int):
    """Whatever the thresholds: a full battery and all bars end an alarm, or it would stand for ever."""
    settings = PhoneSettings(battery_low_threshold=threshold, signal_low_threshold=bars)
    found = said(DeviceStatus(battery_level=100, signal_strength=4), settings, Hysteresis(percent, above))
    assert [each[2] for each in found] == [False, False]


@given(st.integers(-5, 105), st.integers(0, 100), st.integers(0, 30))
def test_no_level_both_raises_and_is_at_its_threshold(level: int, threshold: int, percent: int):
    found = said(DeviceStatus(battery_level=level), PhoneSettings(battery_low_threshold=threshold), Hysteresis(percent, 1))
    assert [each[2] for each in found] in ([], [level < threshold])


def test_a_flag_that_is_off_clears_whatever_is_read():
    off = PhoneSettings(enable_battery_alarms=False, enable_signal_alarms=False)
    cards = (SimCard(slot_index=0, signal_strength=0),)
    found = said(DeviceStatus(battery_level=1, signal_strength=0, sim_cards=cards), off)
    assert [each[:3] for each in found] == [("battery_low", None, False), ("signal_low", None, False), ("signal_low", 0, False)]


def test_signals_are_told_apart_by_sim_and_an_idle_one_says_nothing():
    cards = tuple(SimCard(slot_index=slot, signal_strength=bars) for slot, bars in ((0, 1), (1, 4)))
    idle = (SimCard(slot_index=2, signal_strength=0, is_active=False), SimCard(slot_index=3))
    found = list(readings(DeviceStatus(sim_cards=cards + idle), DEFAULTS, BACK))
    assert found == [
        Reading(AlarmType.SIGNAL_LOW, 0, True, Severity.WARNING, "signal of SIM 1 at 1 bars, below 2"),
        Reading(AlarmType.SIGNAL_LOW, 1, False),
    ]


@pytest.mark.parametrize("slot", [-1, 8, 2**31 - 1])
def test_a_slot_that_no_phone_has_is_not_looked_at(slot: int):
    card = SimCard(slot_index=slot, signal_strength=0)
    assert said(DeviceStatus(sim_cards=(card, replace(card, slot_index=7)))) == [("signal_low", 7, True, "error")]


def test_what_is_not_told_is_not_judged():
    assert said(DeviceStatus()) == []
