"""Which command a report means that names none (C-24): the phones of the seed do not repeat the id of what they were told."""

from collections.abc import Callable, Iterable

from signal_gateway.domain.command import ON_ITS_WAY, Command, CommandKind, CommandState
from signal_gateway.domain.command_answers import Answer, Outcome
from signal_gateway.domain.phone_number import same_number
from signal_gateway.domain.ussd_sessions import is_left_open, is_of_session

_LATE = frozenset({CommandState.UNKNOWN})
_RCS = frozenset({CommandKind.SEND_RCS})


def match(answer: Answer, commands: Iterable[Command]) -> Command | None:
    """The oldest of these commands that the answer fits, those that wait for one first. `commands` stand oldest first.

    Device, kind and SIM must be the same, number and text too where both say them. A delivery report fits what was sent, the end of a USSD
    session what was answered in it.
    """
    fitting = [command for command in commands if _fits(answer, command)]
    for is_expected in _expected(answer):
        for command in fitting:
            if is_expected(command):
                return command
    if answer.outcome is Outcome.CANCELLED:  # names are used again: the newest session of this name
        return next((each for each in reversed(fitting) if is_of_session(each, answer.session_id) and is_left_open(each)), None)
    return None


def _expected(answer: Answer) -> tuple[Callable[[Command], bool], ...]:
    """What it may be about, likeliest first. That an RCS message failed may be the word on its delivery: there is no other."""
    if answer.is_read:
        return _is_unread, _awaits_delivery, _is_late
    if answer.is_delivery_report:
        return _awaits_delivery, _is_late
    if answer.outcome is Outcome.FAILED and answer.kinds == _RCS:
        return _is_on_its_way, _awaits_delivery, _is_late
    return _is_on_its_way, _is_late


def _is_on_its_way(command: Command) -> bool:
    return command.state in ON_ITS_WAY


def _awaits_delivery(command: Command) -> bool:
    return command.state in ON_ITS_WAY or (command.state is CommandState.SENT and command.final_at is None)


def _is_unread(command: Command) -> bool:
    return command.state is CommandState.DELIVERED and command.delivery_report and not (command.result or {}).get("read")


def _is_late(command: Command) -> bool:
    """Nothing was expected of it any more, or only another attempt."""
    return command.state in _LATE or (command.state is CommandState.QUEUED and command.attempts > 0)


def _fits(answer: Answer, command: Command) -> bool:
    if command.kind not in answer.kinds:
        return False
    if answer.sim_slot is not None and command.sim_slot is not None and answer.sim_slot != command.sim_slot:
        return False
    said, known = answer.phone_number, command.phone_number
    if said is not None and known is not None and not same_number(said, known):
        return False
    if answer.session_id is not None and command.session_id is not None and answer.session_id != command.session_id:
        return False
    text = command.data.get("message")
    return answer.text is None or text is None or answer.text == text
