"""Which USSD sessions may be replied to."""

from typing import Any

import pytest

from signal_gateway.domain.command import Command, CommandKind, CommandState
from signal_gateway.domain.command_answers import USSD_KINDS, Outcome
from signal_gateway.domain.command_matching import match
from signal_gateway.domain.command_rules import CommandPolicy, Heard
from signal_gateway.domain.errors import InvalidCommand, SessionNotOpen
from signal_gateway.domain.ussd_sessions import sim_of_session
from tests.domain.commands_made import answer, command

S = CommandState
OPEN: dict[str, Any] = {"ussd_code": "*100#", "delay": 0, "auto_cancel": False}


def opened(state: CommandState = S.DELIVERED, **changes: Any) -> Command:
    """A code whose session s1 is to stay open, by SIM 1."""
    values = {"kind": CommandKind.SEND_USSD, "state": state, "session_id": "s1", "sim_slot": 1, "attempts": 1, "data": OPEN}
    return command(**{**values, **changes})


def reply(state: CommandState = S.DELIVERED, **changes: Any) -> Command:
    return opened(state, **{"kind": CommandKind.USSD_REPLY, "message_id": "m2", "data": {"session_id": "s1", "reply": "1"}, **changes})


def cancelled(**said: Any) -> Any:
    return answer(Outcome.CANCELLED, kinds=USSD_KINDS, error="ussd_cancelled", error_message="user", **said)


@pytest.mark.parametrize(
    "newest_first",
    [
        [opened()],
        [opened(S.QUEUED, attempts=0)],  # the reply stands in line behind it
        [opened(S.UNKNOWN, error="no_answer")],
        [opened(session_id=None, result={"session_id": "s1"})],  # as the phone calls it
        [reply(), opened()],
        [reply(S.CANCELLED, error="cancelled"), reply(S.EXPIRED, error="expired"), opened()],  # of which the phone never knew
        [opened(), reply(S.FAILED), opened(S.FAILED)],  # a name that is used again
        [opened(sim_slot=0, data={**OPEN, "auto_cancel": True}), opened(session_id="s2"), opened()],
    ],
)
def test_a_session_that_is_open_is_replied_to_by_its_sim(newest_first: list[Command]):
    assert sim_of_session(newest_first, "s1", 1) == 1


@pytest.mark.parametrize(
    "newest_first",
    [
        [opened(data={**OPEN, "auto_cancel": True})],
        [opened(data={"ussd_code": "*100#"})],
        [opened(S.FAILED)],
        [opened(S.DEAD)],
        [opened(S.EXPIRED)],
        [opened(S.CANCELLED, error="cancelled")],
        [opened(S.CANCELLED, error="ussd_cancelled")],
        [opened(result={"session_over": "user"})],
        [reply(S.FAILED), opened()],
        [reply(S.DEAD), opened()],
        [reply(S.CANCELLED, error="ussd_cancelled"), opened()],
        [reply(result={"session_over": "user"}), opened()],
        [opened(S.FAILED), opened()],
    ],
)
def test_a_session_that_has_ended_or_was_not_to_stay_open_is_not_replied_to(newest_first: list[Command]):
    with pytest.raises(SessionNotOpen) as refused:
        sim_of_session(newest_first, "s1", None)
    assert refused.value.reason == "session_not_open"


@pytest.mark.parametrize(("session_id", "sim_slot"), [("s2", None), ("s1", 0), (None, None)])
def test_a_session_that_nobody_opened_there_is_unknown(session_id: str | None, sim_slot: int | None):
    with pytest.raises(InvalidCommand) as refused:
        sim_of_session([reply(), opened()], session_id, sim_slot)
    assert refused.value.reason == "unknown_session"


def test_an_open_session_that_ends_is_noted_once_and_its_command_stays_delivered():
    change = Heard(cancelled()).apply(opened(result={"response": "1. Balance"}), CommandPolicy())
    assert change is not None
    assert (change.command.state, change.command.error) == (S.DELIVERED, None)
    assert change.command.result == {"response": "1. Balance", "session_over": "user"}
    assert (change.step.state, change.step.detail) == (S.DELIVERED, {"session_over": "user"})
    assert Heard(cancelled()).apply(change.command, CommandPolicy()) is None
    assert Heard(cancelled()).apply(opened(data={**OPEN, "auto_cancel": True}), CommandPolicy()) is None


def test_the_end_of_a_session_is_about_the_newest_of_its_name_unless_something_waits_for_a_word():
    older, newer = opened(message_id="older"), opened(message_id="newer")
    waiting = opened(S.DISPATCHED, message_id="waiting")
    assert match(cancelled(session_id="s1"), [older, newer]) == newer
    assert match(cancelled(session_id="s1"), [older, waiting, newer]) == waiting
    assert match(cancelled(session_id="s2"), [older, newer]) is None
    assert match(cancelled(), [older, newer]) is None
