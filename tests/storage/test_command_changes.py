"""Events of commands on each of our databases: what one transaction reads, decides and writes (H29)."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from signal_gateway.domain.access import Scope
from signal_gateway.domain.command import Command, CommandKind, CommandState, Wait
from signal_gateway.domain.command_answers import Answer, Outcome
from signal_gateway.domain.command_rules import Cancelled, CommandPolicy, Dispatched, Heard, TimedOut, Unsent
from signal_gateway.domain.sim_limits import SimRules
from signal_gateway.storage import alarms, commands, retention, sims
from signal_gateway.storage.alarms import Acknowledge, Clear, Raise
from signal_gateway.storage.command_changes import Applied, Item, apply
from signal_gateway.storage.database import Database
from signal_gateway.storage.lanes import read_lane, read_pool
from signal_gateway.storage.tables import sim_recipients
from tests.domain.commands_made import AT, command

POLICY = CommandPolicy(jitter=0)
LIMITED = SimRules(limits_enabled=True, daily_max=10, monthly_max=1000, recipients_max=100, guard_s=0)
S = CommandState


def made(number: int, **changes: Any) -> Command:
    return command(id=number, message_id=f"m{number}", **changes)


async def keep(database: Database, *new: Command) -> None:
    await database.write(lambda connection: commands.keep(connection, new))


async def applied(database: Database, *items: Item) -> list[Applied]:
    return list(await database.write(lambda connection: apply(connection, items, POLICY)))


def sets_out(number: int, at: int = AT, rules: SimRules = LIMITED) -> Item:
    return Item(Dispatched(f"m{number}", "phone-1", 0, at), lambda _: rules)


def heard(number: int | None, outcome: Outcome, rules: SimRules = LIMITED, **said: Any) -> Item:
    message_id = None if number is None else f"m{number}"
    kinds = frozenset({CommandKind.SEND_SMS})
    answer = Answer(device_id="phone-1", kinds=kinds, outcome=outcome, at=AT + 5, message_id=message_id, **said)
    return Item(Heard(answer, message_id), lambda _: rules)


async def test_a_command_is_kept_whole_and_twice_is_once(database: Database):
    whole = made(
        1,
        scope=Scope(devices=frozenset({"a", "b"}), groups=frozenset({"g"})),
        any_device=True,
        device_id=None,
        device_group="g",
        not_before=AT + 1,
        digest=b"\x01" * 32,
        data={"phone_number": "+90", "message": "çığ 🙂"},
    )
    (first,) = await database.write(lambda connection: commands.keep(connection, [whole]))
    (again,) = await database.write(lambda connection: commands.keep(connection, [msgspec.structs.replace(whole, id=2)]))
    assert (first.is_new, again.is_new, again.command) == (True, False, whole)
    assert await database.read(lambda connection: commands.find(connection, "m1")) == whole
    assert await database.read(commands.newest_id) == 1
    assert await database.read(commands.count_open) == {None: 1}


async def test_the_life_of_one_and_its_timeline(database: Database):
    await keep(database, made(1))
    (out,) = await applied(database, sets_out(1))
    assert out.usage is not None
    assert (out.usage.day_used, out.usage.month_used, out.usage.recipients, out.usage.last_sent_at) == (1, 1, 1, AT)
    (sent,) = await applied(database, heard(None, Outcome.SENT, phone_number="05551234567", sim_slot=0, text="hello"))
    assert sent.change is not None
    assert sent.change.command.state is S.SENT
    assert await database.read(lambda connection: commands.find(connection, "m1")) == sent.change.command
    steps = await database.read(lambda connection: commands.steps_of(connection, "m1"))
    assert [(step.state, step.attempt) for step in steps] == [(S.DISPATCHED, 1), (S.SENT, 1)]
    (late,) = await applied(database, heard(1, Outcome.FAILED))
    assert (late.before is not None, late.change) == (True, None)
    (nobodys,) = await applied(database, heard(99, Outcome.SENT))
    assert nobodys.before is None


async def test_of_a_hundred_at_the_last_one_of_a_limit_exactly_one_passes(database: Database):
    await keep(database, *(made(number, segments=1) for number in range(1, 110)))
    await applied(database, *(sets_out(number) for number in range(1, 10)))
    results = await applied(database, *(sets_out(number) for number in range(10, 110)))
    assert sum(each.change is not None for each in results) == 1
    assert {each.wait.reason for each in results if each.wait is not None} == {"daily_limit"}
    usage = (await database.read(lambda connection: sims.find_of(connection, "phone-1")))[0]
    assert usage.day_used == 10
    again = await applied(database, *(sets_out(number, AT + 1) for number in range(11, 20)))
    assert not any(each.change for each in again)


async def recipients(database: Database) -> tuple[int, list[str]]:
    """How many the SIM is said to have, and which."""
    usage = (await database.read(lambda connection: sims.find_of(connection, "phone-1")))[0]
    numbers = await database.read(lambda connection: sorted(connection.scalars(select(sim_recipients.c.phone_number))))
    return usage.recipients, numbers


async def test_what_was_not_sent_is_given_back_and_recipients_are_counted_once(database: Database):
    await keep(database, made(1), made(2), made(3, phone_number="+905550000000"))
    await applied(database, sets_out(1), sets_out(2), sets_out(3, AT + 1))
    usage = (await database.read(lambda connection: sims.find_of(connection, "phone-1")))[0]
    assert (usage.day_used, usage.recipients) == (3, 2)
    (failed,) = await applied(database, heard(1, Outcome.FAILED, error="send_failed", blames_sim=True))
    assert failed.usage is not None
    assert (failed.usage.day_used, failed.usage.failures) == (2, 1)
    assert await recipients(database) == (2, ["+905550000000", "+905551234567"])


FAILED_FOR_GOOD = heard(1, Outcome.FAILED, error="send_failed", is_permanent=True)
FAILED = heard(1, Outcome.FAILED, error="send_failed")


@pytest.mark.parametrize("failure", [FAILED_FOR_GOOD, FAILED, Item(Unsent("m1", 1, AT + 5), lambda _: LIMITED)])
@pytest.mark.parametrize("at_once", [True, False])
async def test_the_recipient_of_what_was_not_sent_is_given_back(database: Database, failure: Item, at_once: bool):
    """In one transaction with its dispatch or in another; and counted anew for whatever goes there next."""
    await keep(database, made(1), made(2))
    for items in [[sets_out(1), failure]] if at_once else [[sets_out(1)], [failure]]:
        await applied(database, *items)
    assert await recipients(database) == (0, [])
    await applied(database, sets_out(2, AT + 10), failure)  # told again it gives nothing back
    assert await recipients(database) == (1, ["+905551234567"])


async def test_a_recipient_is_kept_for_whatever_else_may_have_gone_there(database: Database):
    """What went there before, what went there since, and an attempt of its own whose outcome is unknown."""
    await keep(database, made(1), made(2))
    await applied(database, sets_out(2), heard(2, Outcome.SENT), sets_out(1, AT + 10), FAILED)
    assert await recipients(database) == (1, ["+905551234567"])

    other = "+905550000000"
    await keep(database, *(made(number, phone_number=other) for number in (4, 5)))
    await applied(database, sets_out(4, AT + 20), Item(TimedOut("m4", AT + 200_000)), sets_out(5, AT + 200_001))
    late = heard(4, Outcome.FAILED, error="send_failed", is_permanent=True)
    (told,) = await applied(database, late)
    assert told.change is not None  # it was unknown, and gives back what it counted, but not the number
    assert await recipients(database) == (2, [other, "+905551234567"])

    third = "+905550000001"
    await keep(database, made(6, phone_number=third, retry_safe=True))
    again = AT + 900_000
    await applied(database, sets_out(6, AT + 300_000), Item(TimedOut("m6", AT + 500_000)), sets_out(6, again))
    await applied(database, heard(6, Outcome.FAILED, error="send_failed", is_permanent=True))
    assert await recipients(database) == (3, [other, third, "+905551234567"])


async def test_of_numbers_at_a_limit_the_one_that_failed_makes_room(database: Database):
    """One SMS that failed for good before it was sent must not bar the next number for the rest of the month."""
    one = SimRules(limits_enabled=True, daily_max=10, monthly_max=1000, recipients_max=1, guard_s=0)
    await keep(database, made(1), made(2, phone_number="+905550000000"))
    out, barred = await applied(database, sets_out(1, rules=one), sets_out(2, AT + 1, one))
    assert (out.change is not None, barred.wait) == (True, Wait("recipients_limit", one.windows(AT).month_ends_at))
    _, passed = await applied(database, heard(1, Outcome.FAILED, one, error="send_failed", is_permanent=True), sets_out(2, AT + 6, one))
    assert passed.change is not None
    assert await recipients(database) == (1, ["+905550000000"])


async def test_two_events_of_one_command_in_one_go(database: Database):
    await keep(database, made(1), made(2))
    results = await applied(
        database, sets_out(1), heard(1, Outcome.SENT), Item(Cancelled("m1", "x", AT)), Item(Cancelled("m2", "x", AT)), sets_out(2)
    )
    assert [None if each.change is None else each.change.command.state for each in results] == [
        S.DISPATCHED,
        S.SENT,
        None,
        S.CANCELLED,
        None,
    ]


async def test_lanes_hold_what_is_due_in_order(database: Database):
    await keep(
        database,
        made(1),
        made(2, priority=50),
        made(3, not_before=AT + 100),
        made(4, expires_at=AT),
        made(5, device_id="phone-2"),
        made(6, device_id=None, any_device=True),
        made(7),
    )
    await applied(database, sets_out(7))
    lane = await database.read(lambda connection: read_lane(connection, "phone-1", AT + 1, 10))
    assert [each.message_id for each in lane.queued] == ["m2", "m1"]
    assert [each.message_id for each in lane.on_their_way] == ["m7"]
    assert (lane.next_due_at, lane.is_all, lane.usages[0].day_used) == (AT + 100, True, 1)
    known = await database.read(lambda connection: read_lane(connection, "phone-1", AT + 1, 10, is_known=True))
    assert known == replace(lane, on_their_way=[], usages={})
    pool = await database.read(lambda connection: read_pool(connection, AT, 10))
    assert [each.message_id for each in pool.queued] == ["m6"]
    overdue = await database.read(lambda connection: commands.overdue(connection, AT + 86_400_000, 10))
    assert (overdue[0], sorted(overdue)) == ("m7", [f"m{number}" for number in range(1, 8)])


async def test_deadlines_lead_on(database: Database):
    await keep(database, made(1), made(2, kind=CommandKind.FIND_DEVICE, sim_slot=None))
    await applied(database, sets_out(1), Item(Dispatched("m2", "phone-1", None, AT)))
    results = await applied(database, Item(TimedOut("m1", AT + 120_000)), Item(TimedOut("m2", AT + 120_000)))
    assert [each.change and each.change.command.state for each in results] == [S.UNKNOWN, S.QUEUED]


async def test_scopes_and_filters_of_a_search(database: Database):
    await keep(database, made(1, device_group="g"), made(2, device_id="phone-2"), made(3, kind=CommandKind.SEND_USSD))

    async def ids(scope: Scope, **asked: Any) -> list[str]:
        wanted: dict[str, Any] = {"device_id": None, "states": (), "kind": None, "before": None, "limit": 10, **asked}
        return [each.message_id for each in await database.read(lambda connection: commands.search(connection, scope, **wanted))]

    assert await ids(Scope()) == ["m3", "m2", "m1"]
    assert await ids(Scope(), before=3, limit=1) == ["m2"]
    assert await ids(Scope(), kind=CommandKind.SEND_USSD) == ["m3"]
    assert await ids(Scope(), states=(S.SENT,)) == []
    assert await ids(Scope(), device_id="phone-1", states=(S.SENT, S.QUEUED)) == ["m3", "m1"]
    assert await ids(Scope(), device_id="phone-1", states=(S.SENT,)) == []
    assert await ids(Scope(devices=frozenset({"phone-2"}))) == ["m2"]
    assert await ids(Scope(groups=frozenset({"g"}))) == ["m1"]


async def test_alarms_of_a_key_are_open_once(database: Database):
    key = alarms.AlarmKey("phone-1", alarms.AlarmType.BATTERY_LOW)
    slot = alarms.AlarmKey("phone-1", alarms.AlarmType.SIM_BLOCKED, 1)
    raised = [Raise(each, alarms.Severity.WARNING, "low", "server", AT) for each in (key, key, slot)]
    first, second, other = await database.write(lambda connection: alarms.apply(connection, raised))
    assert first is not None
    assert second is not None
    assert other is not None
    assert (first.id, second.occurrences, other.sim_slot) == (second.id, 2, 1)
    assert set(await database.read(alarms.open_severities)) == {key, slot}
    seen = Acknowledge(other.id, "me", AT + 1, frozenset({alarms.AlarmType.SIM_BLOCKED}))
    cleared, gone, acknowledged = await database.write(lambda connection: alarms.apply(connection, [Clear(key, AT), Clear(key, AT), seen]))
    assert cleared is not None
    assert (cleared.cleared_at, gone) == (AT, None)
    assert acknowledged is not None
    assert (acknowledged.acknowledged_by, acknowledged.cleared_at) == ("me", AT + 1)


async def test_sims_are_switched_and_seen(database: Database):
    key = ("phone-1", 0)
    await database.write(lambda connection: sims.switch(connection, [sims.Switch(key, "sim_blocked")]))
    await keep(database, made(1))
    (held,) = await applied(database, sets_out(1))
    assert held.wait == Wait("sim_disabled")
    seen = [sims.Seen(key, {"imsi": digest}) for digest in ("a", "a", "b")]
    assert await database.write(lambda connection: sims.note_seen(connection, seen)) == [False, False, True]
    await database.write(lambda connection: sims.switch(connection, [sims.Switch(key, None)]))
    (out,) = await applied(database, sets_out(1))
    assert out.change is not None


@pytest.mark.parametrize("kind", retention.KINDS)
async def test_each_kind_of_old_row_can_be_deleted(database: Database, kind: str):
    await keep(database, made(1, state=S.SENT, final_at=AT, deadline_at=None), made(2))
    assert await database.write(lambda connection: retention.delete_some(kind, AT + 1, connection, 10)) == 0
    assert await database.write(lambda connection: retention.delete_recipients("2026-01", connection, 10)) == 0
    assert await database.write(lambda connection: retention.delete_commands(AT + 1, 0, 10, connection)) == retention.Walk(1, None)


async def test_two_reports_without_an_id_that_look_alike_mean_two_commands(database: Database):
    """By two SIMs the same text went to the same number, and both reports came before either was written."""
    await keep(database, made(1), made(2, sim_slot=1))
    second = Item(Dispatched("m2", "phone-1", 1, AT), lambda _: LIMITED)
    await applied(database, sets_out(1), second)
    alike = heard(None, Outcome.SENT, phone_number="+905551234567", text="hello")
    one, other, again = await applied(database, alike, alike, alike)
    assert [each.change.command.message_id for each in (one, other) if each.change] == ["m1", "m2"]
    assert other.usage is not None
    assert other.usage.day_used == 1  # what it had counted is known, though it was not the likeliest
    assert again.change is None


async def test_a_report_without_an_id_does_not_mean_what_another_one_names(database: Database):
    await keep(database, made(1), made(2, sim_slot=1))
    await applied(database, sets_out(1), Item(Dispatched("m2", "phone-1", 1, AT), lambda _: LIMITED))
    _, other = await applied(database, heard(1, Outcome.SENT), heard(None, Outcome.SENT, phone_number="+905551234567"))
    assert other.change is not None
    assert other.change.command.message_id == "m2"
