"""Why each command in a lane waits, and until when: told of all of them, not of the first alone."""

import pytest

from signal_gateway.domain.command import CommandKind, Wait
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.sim_limits import SimRules, SimUsage
from signal_gateway.services.command_lanes import BUSY, Lane, Sim
from signal_gateway.services.device_directory import KnownDevice
from tests.domain.commands_made import AT, command

SOON, LATE = AT + 5_000, AT + 60_000
PARKED_SOON, PARKED_LATE = (SimUsage(parked_until=until, parked_reason="carrier_errors") for until in (SOON, LATE))
RULES = SimRules(limits_enabled=False, daily_max=0, monthly_max=0, guard_s=0)


def lane(usages: dict[int, SimUsage], *slots: int | None, kind: CommandKind = CommandKind.SEND_SMS) -> Lane:
    """One of a phone with two SIMs, and a command for each of these slots in line; None: any SIM."""
    made = Lane(KnownDevice("phone-1", "phone", None, PhoneSettings()), lambda _device, _slot: RULES)
    made.sims, made.usages, made.is_loaded = (Sim(0, None), Sim(1, None)), usages, True
    for number, slot in enumerate(slots):
        made.offer(command(id=number, message_id=f"m{number}", sim_slot=slot, any_sim=slot is None, kind=kind))
    return made


@pytest.mark.parametrize(
    ("usages", "slots", "waits"),
    [
        ({0: PARKED_LATE}, [0, 0, 0], [LATE, LATE, LATE]),
        ({0: PARKED_LATE, 1: PARKED_SOON}, [None, None], [SOON, SOON]),
        ({0: PARKED_LATE, 1: PARKED_SOON}, [0, None, 1], [LATE, SOON, SOON]),
        ({0: PARKED_LATE}, [0, 1, 0, 1], [LATE, None, LATE, BUSY]),
        ({0: PARKED_LATE}, [0, None, None], [LATE, None, BUSY]),
        ({}, [0, 0], [None, BUSY]),
    ],
)
def test_what_stands_behind_another_has_its_reason(usages: dict[int, SimUsage], slots: list[int | None], waits: list[int | Wait | None]):
    made = lane(usages, *slots)
    chosen = {each.message_id for each, _ in made.next_ones(AT)}
    expected = {f"m{place}": Wait("sim_parked", wait) if isinstance(wait, int) else wait for place, wait in enumerate(waits)}
    assert made.waits == {message_id: wait for message_id, wait in expected.items() if wait is not None}
    assert chosen == {message_id for message_id, wait in expected.items() if wait is None}
    assert made.next_wake_at() == min((wait.until for wait in made.waits.values() if wait.until is not None), default=None)


def test_a_new_one_has_a_place_at_once_only_where_the_line_is_known_and_empty():
    new = command(id=9, message_id="m9", sim_slot=1)
    known, behind, unread, reading, more = (lane({}, *slots) for slots in ((), (0,), (), (), ()))
    unread.is_loaded, reading.is_loading, more.has_more = False, True, True
    assert [isinstance(each.place_at_once(new, AT), Wait) for each in (known, behind, unread, reading, more)] == [False, *[True] * 4]
    assert known.place_at_once(new, AT) == 1
    known.claim("m8", 1)
    assert known.place_at_once(new, AT) == BUSY
    assert lane({1: PARKED_LATE}).place_at_once(new, AT) == Wait("sim_parked", LATE)


def test_what_needs_no_sim_does_not_wait_for_the_one_that_it_names():
    made = lane({}, 0, kind=CommandKind.FIND_DEVICE)
    made.claim("m9", 0)
    assert [place for _, place in made.next_ones(AT)] == [None]
