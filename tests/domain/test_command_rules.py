"""The life of a command: which events lead where, and that none leads back (H21, H22)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from signal_gateway.domain.command import ALWAYS_FINAL, Command, CommandKind, CommandState
from signal_gateway.domain.command_answers import Outcome
from signal_gateway.domain.command_rules import (
    RANKS,
    SUPERSEDED,
    Cancelled,
    CommandEvent,
    CommandPolicy,
    Dispatched,
    Heard,
    LinkLost,
    Requeued,
    TimedOut,
    Unsent,
    Withdrawn,
)
from signal_gateway.domain.ussd_sessions import SESSION_OVER

from .commands_made import AT, answer, command

POLICY = CommandPolicy(retries_max={CommandKind.SEND_SMS: 2}, backoff_first_s=5, jitter=0)
LATER = AT + 10_000
S = CommandState


def after(start: Command, *events: CommandEvent) -> Command:
    """The command after these events; each must change it."""
    for event in events:
        change = event.apply(start, POLICY)
        assert change is not None, event
        start = change.command
    return start


def unchanged(start: Command, event: CommandEvent) -> bool:
    return event.apply(start, POLICY) is None


def dispatched(at: int = AT, device_id: str = "phone-1", slot: int | None = 0) -> Dispatched:
    return Dispatched("m1", device_id, slot, at)


def heard(outcome: Outcome, **said: Any) -> Heard:
    return Heard(answer(outcome, **said), "m1")


def test_the_straight_way():
    sent = after(command(), dispatched(), heard(Outcome.SENT))
    assert (sent.state, sent.final_at, sent.deadline_at, sent.attempts) == (S.SENT, AT + 5000, None, 1)
    whole = after(command(delivery_report=True), dispatched(), heard(Outcome.ACCEPTED), heard(Outcome.SENT))
    assert (whole.state, whole.final_at, whole.deadline_at) == (S.SENT, None, AT + 5000 + 259_200_000)
    assert after(whole, heard(Outcome.DELIVERED)).state is S.DELIVERED


def test_what_is_not_due_or_over_or_anothers_does_not_set_out():
    assert unchanged(command(not_before=AT + 1), dispatched())
    assert unchanged(command(expires_at=AT), dispatched())
    assert unchanged(command(), dispatched(device_id="phone-2"))
    assert unchanged(after(command(), dispatched()), dispatched())
    taken = after(command(device_id=None, sim_slot=None, any_device=True, any_sim=True), dispatched(device_id="phone-2", slot=1))
    assert (taken.device_id, taken.sim_slot) == ("phone-2", 1)


def test_a_failure_is_tried_again_ever_later_and_then_dead():
    failed = heard(Outcome.FAILED, error="send_failed")
    once = after(command(), dispatched(), failed)
    assert (once.state, once.not_before, once.error) == (S.QUEUED, AT + 5000 + 5000, "send_failed")
    twice = after(once, dispatched(LATER), heard(Outcome.FAILED, at=LATER))
    assert (twice.state, twice.not_before) == (S.QUEUED, LATER + 10_000)
    dead = after(twice, dispatched(LATER + 10_000), failed)
    assert (dead.state, dead.attempts, dead.final_at is not None) == (S.DEAD, 3, True)
    again = after(dead, Requeued("m1", "boss", LATER + 20_000))
    assert (again.state, again.attempts_before, again.final_at, again.error) == (S.QUEUED, 3, None, None)
    assert after(again, dispatched(LATER + 20_000), failed).state is S.QUEUED  # all its retries are there again


def test_a_permanent_failure_is_not_tried_again_and_gives_back_what_was_counted():
    change = heard(Outcome.FAILED, is_permanent=True).apply(after(command(), dispatched()), POLICY)
    assert change is not None
    assert (change.command.state, change.counts) == (S.FAILED, False)


def test_a_failed_delivery_was_sent_and_counts():
    sent = after(command(delivery_report=True), dispatched(), heard(Outcome.SENT))
    change = heard(Outcome.FAILED, is_delivery_report=True, is_permanent=True).apply(sent, POLICY)
    assert change is not None
    assert (change.command.state, change.counts) == (S.FAILED, True)


def test_a_retry_chooses_phone_and_sim_anew_where_they_were_chosen():
    free = command(device_id=None, sim_slot=None, any_device=True, any_sim=True)
    back = after(free, dispatched(slot=1), heard(Outcome.FAILED))
    assert (back.device_id, back.sim_slot) == (None, None)
    assert after(command(), dispatched(), heard(Outcome.FAILED)).sim_slot == 0


@pytest.mark.parametrize("kind", list(CommandKind))
def test_without_a_word_only_what_may_be_repeated_is_tried_again(kind: CommandKind):
    on_way = after(command(kind=kind), dispatched(slot=0))
    assert on_way.deadline_at == AT + 120_000
    late = after(on_way, TimedOut("m1", AT + 120_000))
    is_repeatable = kind in (CommandKind.FIND_DEVICE, CommandKind.ALARM_START, CommandKind.ALARM_STOP)
    assert late.state is (S.QUEUED if is_repeatable else S.UNKNOWN)
    assert after(after(command(kind=kind, retry_safe=True), dispatched(slot=0)), TimedOut("m1", AT + 120_000)).state is S.QUEUED


def test_a_late_report_resolves_the_unknown():
    unknown = after(command(), dispatched(), TimedOut("m1", AT + 120_000))
    assert unknown.final_at == AT + 120_000
    assert after(unknown, heard(Outcome.SENT)).state is S.SENT
    assert after(unknown, heard(Outcome.DELIVERED)).state is S.DELIVERED
    waiting = after(command(delivery_report=True), dispatched(), TimedOut("m1", AT + 120_000), heard(Outcome.SENT))
    assert (waiting.state, waiting.final_at) == (S.SENT, None)


def test_a_late_failure_of_the_unknown_is_tried_again():
    again = after(command(), dispatched(), TimedOut("m1", AT + 120_000), heard(Outcome.FAILED, at=AT + 130_000))
    assert (again.state, again.final_at, again.deadline_at) == (S.QUEUED, None, AT + 86_400_000)
    assert after(again, dispatched(AT + 140_000)).state is S.DISPATCHED


def test_a_link_lost_repeats_what_may_be_repeated():
    on_way = after(command(), dispatched())
    assert unchanged(on_way, LinkLost("m1", LATER))
    ring = after(command(kind=CommandKind.FIND_DEVICE), dispatched(slot=None))
    assert after(ring, LinkLost("m1", LATER)).state is S.QUEUED


def test_what_was_never_sent_waits_on_without_an_attempt():
    change = Unsent("m1", 1, LATER).apply(after(command(), dispatched()), POLICY)
    assert change is not None
    assert (change.command.state, change.command.attempts, change.counts) == (S.QUEUED, 0, False)
    assert unchanged(after(command(), dispatched(), heard(Outcome.SENT)), Unsent("m1", 1, LATER))


def test_time_runs_out_in_the_queue_and_for_a_delivery_report():
    assert unchanged(command(), TimedOut("m1", AT + 86_399_999))
    assert after(command(), TimedOut("m1", AT + 86_400_000)).state is S.EXPIRED
    sent = after(command(delivery_report=True), dispatched(), heard(Outcome.SENT))
    late = after(sent, TimedOut("m1", AT + 5000 + 259_200_000))
    assert (late.state, late.error) == (S.UNKNOWN, "no_delivery_report")


def test_no_retry_outlives_its_command():
    short = command(expires_at=AT + 8000)
    assert after(short, dispatched(), heard(Outcome.FAILED)).state is S.EXPIRED


def test_only_what_waits_is_cancelled():
    assert after(command(), Cancelled("m1", "boss", LATER)).state is S.CANCELLED
    assert unchanged(after(command(), dispatched()), Cancelled("m1", "boss", LATER))


def test_what_is_withdrawn_is_cancelled_or_unknown_and_no_late_failure_begins_it_again():
    withdrawn = Withdrawn("m1", SUPERSEDED, "a stop came after it", LATER)
    waiting = after(command(kind=CommandKind.ALARM_START), withdrawn)
    assert (waiting.state, waiting.error, waiting.final_at, waiting.deadline_at) == (S.CANCELLED, "superseded", LATER, None)
    told = after(command(kind=CommandKind.ALARM_START), dispatched(slot=None), withdrawn)
    assert (told.state, told.error, told.final_at, told.deadline_at) == (S.UNKNOWN, "superseded", LATER, None)
    kinds = frozenset({CommandKind.ALARM_START})
    assert after(told, heard(Outcome.DELIVERED, kinds=kinds)).state is S.DELIVERED
    assert after(told, heard(Outcome.FAILED, kinds=kinds)).state is S.FAILED
    for done in (waiting, told, after(command(), dispatched(), heard(Outcome.SENT))):
        assert unchanged(done, withdrawn)


def test_another_phone_tries_what_is_withdrawn_from_one_if_it_may_be_repeated():
    gone = Withdrawn.by_deletion("m1", LATER)
    safe, once = (command(device_id=None, any_device=True, retry_safe=retry_safe) for retry_safe in (True, False))
    again = after(safe, dispatched(), gone)
    assert (again.state, again.device_id, again.error) == (S.QUEUED, None, "device_deleted")
    assert after(once, dispatched(), gone).state is S.UNKNOWN


def test_a_ussd_session_that_is_ended_was_cancelled_unless_it_was_answered():
    ussd = command(kind=CommandKind.SEND_USSD, data={"ussd_code": "*123#", "delay": 30})
    kinds = frozenset({CommandKind.SEND_USSD})
    on_way = after(ussd, dispatched())
    assert on_way.deadline_at == AT + 150_000  # its delay counts as seconds (C-30)
    assert after(on_way, heard(Outcome.CANCELLED, kinds=kinds)).state is S.CANCELLED
    answered = after(on_way, heard(Outcome.DELIVERED, kinds=kinds, result={"response": "ok"}))
    assert unchanged(answered, heard(Outcome.CANCELLED, kinds=kinds))
    assert answered.result == {"response": "ok"}


def test_parts_are_counted_and_the_last_one_delivers():
    sent = after(command(delivery_report=True, segments=3), dispatched(), heard(Outcome.SENT))

    def part(number: int) -> Heard:
        return heard(Outcome.DELIVERED, is_delivery_report=True, part=number, parts=3)

    two = after(sent, part(2), part(2), part(1))
    assert (two.state, two.result) == (S.SENT, {"parts_delivered": [1, 2], "parts": 3})
    assert after(two, part(3)).state is S.DELIVERED
    assert after(two, heard(Outcome.FAILED, is_delivery_report=True, part=3, parts=3, is_permanent=True)).state is S.FAILED


@pytest.mark.parametrize("before", [[], [TimedOut("m1", AT + 120_000)]], ids=["on its way", "unknown"])
def test_a_part_that_arrives_before_the_phones_word_says_that_it_was_sent(before: list[CommandEvent]):
    part = heard(Outcome.DELIVERED, is_delivery_report=True, part=1, parts=2)
    early = after(command(delivery_report=True, segments=2), dispatched(), *before, part)
    assert (early.state, early.result, early.final_at) == (S.SENT, {"parts_delivered": [1], "parts": 2}, None)
    last = heard(Outcome.DELIVERED, is_delivery_report=True, part=2, parts=2)
    assert after(early, last).state is S.DELIVERED


def test_a_failure_that_is_told_late_brings_back_to_life_what_was_given_up():
    """It waits in the queue like any other: what still counted as ended was found by nobody, and queued for ever."""
    again = after(command(), dispatched(), TimedOut("m1", AT + 120_000), heard(Outcome.FAILED, at=AT + 130_000))
    assert (again.state, again.final_at, again.deadline_at, again.not_before) == (S.QUEUED, None, again.expires_at, AT + 135_000)
    assert after(again, dispatched(AT + 135_000), heard(Outcome.SENT, at=AT + 136_000)).state is S.SENT


def test_a_late_word_of_the_phone_that_had_it_last_counts_though_it_waits_for_any_phone_again():
    """An operator requeued what was unknown: it must not go out a second time where the first phone says that it did it."""
    free = command(device_id=None, sim_slot=None, any_device=True, any_sim=True)
    unknown = after(free, dispatched(device_id="phone-2", slot=1), TimedOut("m1", AT + 120_000))
    again = after(unknown, Requeued("m1", "boss", AT + 130_000))
    assert (again.state, again.device_id, again.result) == (S.QUEUED, None, {"tried_by": "phone-2", "tried_sim_slot": 1})
    assert unchanged(again, heard(Outcome.SENT, device_id="phone-1"))
    assert unchanged(again, heard(Outcome.FAILED, device_id="phone-2"))
    sent = after(again, heard(Outcome.SENT, device_id="phone-2", at=AT + 140_000))
    assert (sent.state, sent.device_id, sent.sim_slot, sent.result) == (S.SENT, "phone-2", 1, None)
    elsewhere = after(again, dispatched(AT + 140_000, "phone-1"))
    assert elsewhere.result is None
    assert unchanged(elsewhere, heard(Outcome.SENT, device_id="phone-2"))


def test_each_time_it_is_requeued_it_lives_as_long_as_at_first():
    now, at = command(), AT
    life_ms = now.expires_at - now.created_at
    for _ in range(3):
        now = after(now, TimedOut("m1", at := now.expires_at))
        assert now.state is S.EXPIRED
        now = after(now, Requeued("m1", "boss", at := at + 10 * life_ms))
        assert now.expires_at - at == life_ms


def test_another_device_or_kind_answers_nothing():
    on_way = after(command(), dispatched())
    assert unchanged(on_way, heard(Outcome.SENT, device_id="phone-2"))
    assert unchanged(on_way, heard(Outcome.SENT, kinds=frozenset({CommandKind.SEND_RCS})))
    assert unchanged(command(), heard(Outcome.SENT))  # it was never sent


EVENTS = st.one_of(
    st.builds(dispatched, st.integers(AT, AT + 10**8)),
    st.builds(lambda outcome, dlr: heard(outcome, is_delivery_report=dlr), st.sampled_from(Outcome), st.booleans()),
    st.builds(lambda outcome: heard(outcome, is_permanent=True), st.just(Outcome.FAILED)),
    st.builds(lambda part: heard(Outcome.DELIVERED, is_delivery_report=True, part=part, parts=3), st.integers(1, 3)),
    st.builds(lambda at: TimedOut("m1", at), st.integers(AT, AT + 10**9)),
    st.builds(lambda at: LinkLost("m1", at), st.integers(AT, AT + 10**8)),
    st.builds(lambda attempt: Unsent("m1", attempt, LATER), st.integers(0, 4)),
    st.just(Cancelled("m1", "boss", LATER)),
)
KINDS = st.sampled_from(CommandKind)


@settings(max_examples=400)
@given(KINDS, st.booleans(), st.booleans(), st.lists(EVENTS, min_size=8, max_size=30))
def test_whatever_happens_states_go_forward_within_an_attempt_and_end_once(
    kind: CommandKind, wants_report: bool, is_safe: bool, events: list[CommandEvent]
):
    now = command(kind=kind, delivery_report=wants_report, retry_safe=is_safe)
    sent_at_all = 0
    for event in events:
        if isinstance(event, Heard):
            event = Heard(answer(event.answer.outcome, kinds=frozenset({kind}), is_delivery_report=event.answer.is_delivery_report), "m1")
        change = event.apply(now, POLICY)
        if change is None:
            continue
        before, now = now, change.command
        sent_at_all += now.state is S.DISPATCHED
        is_note = isinstance(event, Heard) and now == replace(
            before, result={**(before.result or {}), SESSION_OVER: event.answer.error_message}
        )
        assert before.state not in ALWAYS_FINAL or is_note
        assert (now.deadline_at is None) == (now.final_at is not None)
        assert (now.final_at is not None) >= (now.state in ALWAYS_FINAL)
        is_new_attempt = now.state is S.QUEUED or before.state is S.QUEUED
        if not is_new_attempt and now.state in RANKS and before.state in RANKS:
            assert RANKS[now.state] >= RANKS[before.state] or (before.state is S.SENT and now.state is S.UNKNOWN)
        if before.state is S.UNKNOWN:
            assert isinstance(event, Heard)
        if now.state is S.QUEUED and now.attempts and not now.may_be_repeated:
            assert isinstance(event, Heard | Unsent)  # never sent again while the outcome is unknown
    assert now.attempts <= 1 + POLICY.retries_of(kind)


def test_a_failure_that_is_said_again_is_not_about_the_attempt_that_followed():
    """Else the second attempt, which may have been sent, would be followed by a third: the same SMS twice."""
    failed = heard(Outcome.FAILED, report_id="r1")
    second = after(command(), dispatched(), failed, dispatched(LATER))
    assert unchanged(second, failed)
    assert after(second, heard(Outcome.FAILED, report_id="r2")).state is S.QUEUED
