"""Delivery reports: of parts of a long SMS, numbered or not, and of RCS messages (T-23, C-25, H22)."""

from itertools import permutations
from typing import Any

import pytest

from signal_gateway.domain.command import Command, CommandKind, CommandState
from signal_gateway.domain.command_answers import Answer, Outcome, answer_of
from signal_gateway.domain.command_matching import match
from signal_gateway.domain.command_rules import CommandPolicy, Dispatched, Heard, TimedOut
from signal_gateway.domain.report import Report
from tests.domain.commands_made import AT, answer, command

POLICY = CommandPolicy(jitter=0)
S = CommandState
RCS = CommandKind.SEND_RCS
SECOND = 1000


def after(start: Command, *events: Any) -> Command:
    """The command after these events; what changes nothing is passed over."""
    for event in events:
        change = event.apply(start, POLICY)
        start = start if change is None else change.command
    return start


def long_sms(**changes: Any) -> Command:
    """In three parts, sent."""
    return after(
        command(delivery_report=True, segments=3, **changes), Dispatched("m1", "phone-1", 0, AT), Heard(answer(Outcome.SENT), "m1")
    )


def arrived(said_at: int | None, at: int = AT + 9 * SECOND, outcome: Outcome = Outcome.DELIVERED) -> Heard:
    """A report that does not say of which part it is."""
    is_permanent = outcome is Outcome.FAILED
    return Heard(answer(outcome, is_delivery_report=True, said_at=said_at, at=at, is_permanent=is_permanent), "m1")


def test_three_reports_without_numbers_are_the_three_parts():
    two = after(long_sms(), arrived(1), arrived(2))
    assert (two.state, two.final_at) == (S.SENT, None)
    assert two.result == {"parts_reported_at": [1, 2], "parts": 3}
    whole = after(two, arrived(3))
    assert (whole.state, whole.deadline_at) == (S.DELIVERED, None)
    assert whole.result == {"parts_reported_at": [1, 2, 3], "parts": 3}


def test_the_same_report_again_is_no_other_part():
    again = after(long_sms(), arrived(1), arrived(1), arrived(1), arrived(2))
    assert again.state is S.SENT
    assert arrived(2).apply(again, POLICY) is None


def test_one_report_and_no_further_one_for_a_while_was_of_the_whole():
    one = after(long_sms(), arrived(1, at=AT + 60 * SECOND))
    assert one.deadline_at == AT + 180 * SECOND
    later = after(one, arrived(2, at=AT + 150 * SECOND))
    assert later.deadline_at == AT + 270 * SECOND
    settled = after(later, TimedOut("m1", AT + 270 * SECOND))
    assert (settled.state, settled.error, settled.final_at) == (S.DELIVERED, None, AT + 270 * SECOND)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_one_part_that_failed_fails_the_whole_in_whatever_order_they_come(order: tuple[int, ...]):
    reports = [arrived(1), arrived(2), arrived(3, outcome=Outcome.FAILED)]
    ended = after(long_sms(), *(reports[place] for place in order))
    assert ended.state is S.FAILED


def test_a_phone_that_sent_fewer_parts_than_we_counted_is_believed():
    sent = Heard(answer(Outcome.SENT, result={"segments_sent": 2}), "m1")
    start = after(command(delivery_report=True, segments=3), Dispatched("m1", "phone-1", 0, AT), sent)
    assert after(start, arrived(1), arrived(2)).state is S.DELIVERED


def test_a_part_that_arrives_before_the_phones_word_says_that_it_was_sent_and_waits_for_the_others():
    early = after(command(delivery_report=True, segments=3), Dispatched("m1", "phone-1", 0, AT), arrived(1))
    assert (early.state, early.deadline_at, early.final_at) == (S.SENT, AT + 129 * SECOND, None)
    assert after(early, Heard(answer(Outcome.SENT), "m1")) == early
    assert after(early, arrived(2), arrived(3)).state is S.DELIVERED


def test_one_part_or_no_report_asked_for_is_over_at_once():
    one = after(command(delivery_report=True), Dispatched("m1", "phone-1", 0, AT), arrived(1))
    assert one.state is S.DELIVERED
    unasked = after(command(segments=3), Dispatched("m1", "phone-1", 0, AT), arrived(1))
    assert unasked.state is S.DELIVERED


def rcs_log(status: str, **data: Any) -> Answer:
    said = answer_of(Report("phone-1", "rcs_log", {"phone_number": "+905551234567", "status": status, **data}, AT + SECOND))
    assert said is not None
    return said


def rcs(message_id: str = "m1", **changes: Any) -> Command:
    return after(
        command(kind=RCS, delivery_report=True, segments=None, message_id=message_id, **changes), Dispatched(message_id, "phone-1", 0, AT)
    )


def test_an_rcs_message_is_sent_delivered_and_read():
    sent = after(rcs(), Heard(rcs_log("sent"), "m1"))
    assert (sent.state, sent.final_at) == (S.SENT, None)
    delivered = after(sent, Heard(rcs_log("delivered"), "m1"))
    assert (delivered.state, delivered.final_at) == (S.DELIVERED, AT + SECOND)
    change = Heard(rcs_log("read"), "m1").apply(delivered, POLICY)
    assert change is not None
    assert (change.command.state, change.command.result) == (S.DELIVERED, {"read": True})
    assert change.step.detail == {"delivery_report": True, "read": True}
    assert Heard(rcs_log("read"), "m1").apply(change.command, POLICY) is None
    assert after(sent, Heard(rcs_log("read"), "m1")).result == {"read": True}  # who has read it has got it


def test_an_rcs_message_that_was_not_delivered_has_failed_and_is_not_sent_again():
    sent = after(rcs(), Heard(rcs_log("sent"), "m1"))
    assert after(sent, Heard(rcs_log("failed"), "m1")).state is S.FAILED
    lost = after(rcs(), Heard(rcs_log("failed", delivery_report=True), "m1"))  # its "sent" never came
    assert (lost.state, lost.error) == (S.FAILED, "not_delivered")
    assert after(rcs(), Heard(rcs_log("failed"), "m1")).state is S.QUEUED


def test_what_is_not_asked_for_ends_with_sent():
    start = after(command(kind=RCS, segments=None), Dispatched("m1", "phone-1", 0, AT), Heard(rcs_log("sent"), "m1"))
    assert start.final_at == AT + SECOND
    assert Heard(rcs_log("delivered"), "m1").apply(start, POLICY) is None


def test_an_rcs_report_without_an_id_means_the_oldest_that_waits_for_one():
    waiting = after(rcs("a"), Heard(rcs_log("sent"), "a"))
    on_way = rcs("b", id=2)
    both = [waiting, on_way]
    assert match(rcs_log("sent"), both) == on_way
    assert match(rcs_log("failed"), both) == on_way
    assert match(rcs_log("delivered"), both) == waiting
    assert match(rcs_log("failed"), [waiting]) == waiting
    delivered = after(waiting, Heard(rcs_log("delivered"), "a"))
    assert match(rcs_log("read"), [delivered, on_way]) == delivered
    read = after(delivered, Heard(rcs_log("read"), "a"))
    assert match(rcs_log("read"), [read]) is None


def test_an_sms_log_of_a_delivery_means_what_was_sent_before():
    waiting = after(command(delivery_report=True, message_id="a"), Dispatched("a", "phone-1", 0, AT), Heard(answer(Outcome.SENT), "a"))
    on_way = after(command(message_id="b", id=2), Dispatched("b", "phone-1", 0, AT))
    said = answer_of(Report("phone-1", "sms_log", {"phone_number": "+905551234567", "status": "delivered", "message": "hello"}, AT))
    assert said is not None
    assert match(said, [waiting, on_way]) == waiting
