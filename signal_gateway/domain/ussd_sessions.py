"""USSD sessions that stay open for replies, as those opened with `auto_cancel: false` do (C-26), and how they end."""

from collections.abc import Iterable

from signal_gateway.domain.command import Command, CommandKind, CommandState
from signal_gateway.domain.errors import InvalidCommand, SessionNotOpen

SESSION_OVER = "session_over"
"""In the result of a command that was answered: why its session was ended after that."""
USSD_CANCELLED = "ussd_cancelled"
"""The error of a command whose session was ended before an answer came."""
_FAILED = frozenset({CommandState.FAILED, CommandState.DEAD})


def keeps_session(command: Command) -> bool:
    """Whether the phone is to leave the session open when it has answered this command."""
    return command.kind is CommandKind.USSD_REPLY or (command.kind is CommandKind.SEND_USSD and command.data.get("auto_cancel") is False)


def is_of_session(command: Command, session_id: str | None) -> bool:
    """Whether it belongs to this session, by the name it was given or by that of the phone."""
    return session_id is not None and session_id in (command.session_id, (command.result or {}).get("session_id"))


def is_left_open(command: Command) -> bool:
    """Whether it was answered, and nothing ended its session since."""
    return command.state is CommandState.DELIVERED and keeps_session(command) and SESSION_OVER not in (command.result or {})


def sim_of_session(newest_first: Iterable[Command], session_id: str | None, sim_slot: int | None) -> int:
    """The SIM on which a session was opened, for a reply: any, or the one that is named. Of the device's USSD commands.

    A session that the phone has not answered yet counts as open: replies to it stand in line behind it. Raises SessionNotOpen, and
    InvalidCommand where none of this name was opened.
    """
    for command in newest_first:
        if not is_of_session(command, session_id) or command.sim_slot is None or sim_slot not in (None, command.sim_slot):
            continue
        if not keeps_session(command):
            raise SessionNotOpen("this USSD session was not opened with auto_cancel false: the phone ends it by itself")
        if _has_ended(command):
            raise SessionNotOpen("this USSD session has ended")
        if command.kind is CommandKind.SEND_USSD:
            return command.sim_slot
    where = "this device" if sim_slot is None else "this SIM"
    raise InvalidCommand("unknown_session", f"no USSD session of this id was opened on {where}", "session_id")


def _has_ended(command: Command) -> bool:
    """A reply that an operator took back, or whose time was over, ended nothing: the phone never knew of it."""
    if command.state in _FAILED or command.error == USSD_CANCELLED or SESSION_OVER in (command.result or {}):
        return True
    return command.kind is CommandKind.SEND_USSD and command.state in (CommandState.CANCELLED, CommandState.EXPIRED)
