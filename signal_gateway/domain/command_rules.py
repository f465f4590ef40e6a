"""How a command goes from state to state (CONTRACT.md §5): pure rules, applied to what is on disk.

An event names a command and changes it, or, when the command is past it, changes nothing. Within one attempt states only go forward; a
failure that may be tried again begins a new attempt. What is decided here is written in the transaction that read the command.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from signal_gateway.domain.command import ALWAYS_FINAL, ON_ITS_WAY, Command, CommandKind, CommandState, Step
from signal_gateway.domain.command_answers import Answer, Outcome
from signal_gateway.domain.delivery import UNNUMBERED, Part, has_settled, part_of
from signal_gateway.domain.ussd_sessions import SESSION_OVER, is_left_open

QUEUED, DISPATCHED, ACCEPTED = CommandState.QUEUED, CommandState.DISPATCHED, CommandState.ACCEPTED
SENT, DELIVERED, FAILED, UNKNOWN = CommandState.SENT, CommandState.DELIVERED, CommandState.FAILED, CommandState.UNKNOWN

RANKS: Mapping[CommandState, int] = {QUEUED: 0, DISPATCHED: 1, ACCEPTED: 2, UNKNOWN: 3, SENT: 4, DELIVERED: 5}
"""Forward is up, within one attempt. States that end a command are above all that lead to them."""
_OF_OUTCOME: Mapping[Outcome, CommandState] = {Outcome.ACCEPTED: ACCEPTED, Outcome.SENT: SENT, Outcome.DELIVERED: DELIVERED}
TRIED_BY, TRIED_SIM = "tried_by", "tried_sim_slot"
"""In the result of a command that waits for any phone again: which one had it last, and by which SIM."""
SUPERSEDED, DEVICE_DELETED = "superseded", "device_deleted"
GIVEN_UP = frozenset({SUPERSEDED, DEVICE_DELETED})
"""Errors of what was withdrawn: a failure that is told late begins no other attempt."""
REQUEUEABLE = frozenset({CommandState.DEAD, FAILED, CommandState.EXPIRED, UNKNOWN})
"""What an operator may send on its way again: it has ended, and not well."""


@dataclass(frozen=True, slots=True)
class CommandPolicy:
    """How long each state may last, and how often a command is tried. Seconds."""

    retries_max: Mapping[CommandKind, int] = field(default_factory=dict[CommandKind, int])
    """By kind; 5 where it does not say (C-54)."""
    backoff_first_s: float = 5.0
    backoff_max_s: float = 300.0
    jitter: float = 0.2
    dispatched_s: float = 120.0
    """For a word of the device, after it was sent there."""
    accepted_s: float = 600.0
    """For a result, after the device has taken it on."""
    delivery_s: float = 259_200.0
    """For a delivery report."""
    parts_settle_s: float = 120.0
    """For a further one, after one that does not say of which part of a long SMS it is."""

    def retries_of(self, kind: CommandKind) -> int:
        """How often it is tried again."""
        return self.retries_max.get(kind, 5)

    def backoff_ms(self, attempts: int, chance: float) -> int:
        """How long to wait after so many attempts: doubled each time, and spread by `chance`, 0 to 1."""
        wait_s = min(self.backoff_first_s * 2 ** min(attempts - 1, 30), self.backoff_max_s)
        return round(1000 * wait_s * (1 + self.jitter * (2 * chance - 1)))


class Change(NamedTuple):
    """What an event did."""

    command: Command
    """As it is now."""
    step: Step
    counts: bool = True
    """False where the SIM did not send after all: what was counted for it is given back."""


class Dispatched(msgspec.Struct, frozen=True):
    """It sets out to a device, by one of its SIMs if it uses one."""

    message_id: str
    device_id: str
    sim_slot: int | None
    at: int

    def apply(self, command: Command, policy: CommandPolicy) -> Change | None:
        """Only a queued command whose time has come and is not over sets out, and to no other device than its own."""
        if command.state is not QUEUED or command.device_id not in (None, self.device_id):
            return None
        if command.expires_at <= self.at or (command.not_before or 0) > self.at:
            return None
        attempt = command.attempts + 1
        now = _replace(
            command,
            DISPATCHED,
            device_id=self.device_id,
            sim_slot=self.sim_slot if command.uses_sim else None,
            attempts=attempt,
            result=_untraced(command.result),
            not_before=None,
            deadline_at=self.at + round(1000 * (policy.dispatched_s + _delay_s(command))),
            dispatched_at=self.at,
        )
        detail = {"device_id": self.device_id} | ({} if now.sim_slot is None else {"sim_slot": now.sim_slot})
        return Change(now, Step(at=self.at, state=DISPATCHED, attempt=attempt, detail=detail))


class Unsent(msgspec.Struct, frozen=True):
    """The link was gone before the first byte of it was sent: it waits on as if it had never set out."""

    message_id: str
    attempt: int
    at: int

    def apply(self, command: Command, policy: CommandPolicy) -> Change | None:
        """Back to the queue, without an attempt."""
        if command.state is not DISPATCHED or command.attempts != self.attempt:
            return None
        change = _queued_again(command, self.at, self.at, {"reason": "link_lost"}, attempts=self.attempt - 1)
        return change._replace(counts=False)


class LinkLost(msgspec.Struct, frozen=True):
    """The device has come back, and what was on its way over its last link was never answered."""

    message_id: str
    at: int

    def apply(self, command: Command, policy: CommandPolicy) -> Change | None:
        """What may be repeated goes out again; for the others a word may still come."""
        if command.state not in ON_ITS_WAY or not command.may_be_repeated:
            return None
        return _try_again(command, policy, self.at, 0, "link_lost", "the link was lost before an answer came")


class TimedOut(msgspec.Struct, frozen=True):
    """The deadline of the state that it is in has passed. `chance` spreads the next try."""

    message_id: str
    at: int
    chance: float = 0.5

    def apply(self, command: Command, policy: CommandPolicy) -> Change | None:
        """Each state that is not final leads on: expired, tried again, or unknown."""
        if command.deadline_at is None or command.deadline_at > self.at:
            return None
        if command.state is QUEUED:
            return _ended(command, CommandState.EXPIRED, self.at, "expired", "its time was over before it could be sent")
        if command.state is SENT and has_settled(command):  # nothing more came: what was told was of the whole
            now = _replace(command, DELIVERED, deadline_at=None, final_at=self.at, error=None, error_message=None)
            return Change(now, Step(at=self.at, state=DELIVERED, attempt=command.attempts, detail={"delivery_report": True}))
        if command.state is SENT:
            return _ended(command, UNKNOWN, self.at, "no_delivery_report", "it was sent, and no delivery report came")
        if command.may_be_repeated:
            wait_ms = policy.backoff_ms(command.attempts, self.chance)
            return _try_again(command, policy, self.at, wait_ms, "no_answer", "the device did not answer in time")
        return _ended(command, UNKNOWN, self.at, "no_answer", "the device did not say what became of it")


class Heard(msgspec.Struct, frozen=True):
    """A device has reported. `message_id` is None until the command that it answers was found."""

    answer: Answer
    message_id: str | None = None
    chance: float = 0.5

    @property
    def at(self) -> int:
        """When it was heard."""
        return self.answer.at

    def apply(self, command: Command, policy: CommandPolicy) -> Change | None:
        """Forward within the attempt; a failure begins another one or ends it. None for what it has been told before."""
        answer = self.answer
        command = _as_tried(command, answer.device_id)
        if command.device_id != answer.device_id or command.kind not in answer.kinds:
            return None
        if answer.report_id is not None and answer.report_id == command.last_report:  # said again: not about the attempt that followed
            return None
        change = self._judge(command, policy)
        if change is None or answer.report_id is None:
            return change
        return change._replace(command=msgspec.structs.replace(change.command, last_report=answer.report_id))

    def _judge(self, command: Command, policy: CommandPolicy) -> Change | None:
        answer = self.answer
        if answer.is_read and command.state is DELIVERED:
            return _read(command, answer)
        if answer.outcome is Outcome.CANCELLED and is_left_open(command):
            return _session_ended(command, answer)
        if command.attempts == 0 or command.state in ALWAYS_FINAL or (command.state is SENT and command.final_at is not None):
            return None
        if answer.outcome is Outcome.PENDING:
            return None
        if answer.outcome in _OF_OUTCOME:
            return _forward(command, answer, policy)
        if command.state is QUEUED:  # the failure of an attempt that was given up: the next one is under way already
            return None
        if answer.outcome is Outcome.CANCELLED:
            return _ended(command, CommandState.CANCELLED, self.at, answer.error, answer.error_message)
        if answer.is_permanent or command.state is SENT or answer.is_delivery_report or command.error in GIVEN_UP:
            change = _ended(command, FAILED, self.at, answer.error, answer.error_message, answer.result)
            return change._replace(counts=answer.is_delivery_report or command.state is SENT)
        wait_ms = policy.backoff_ms(command.attempts, self.chance)
        change = _try_again(command, policy, self.at, wait_ms, answer.error or "failed", answer.error_message, answer.result)
        return change._replace(counts=False)


class Cancelled(msgspec.Struct, frozen=True):
    """Its operator does not want it any more."""

    message_id: str
    actor: str
    at: int

    def apply(self, command: Command, policy: CommandPolicy) -> Change | None:
        """Only while it waits: what a phone has been told cannot be taken back."""
        if command.state is not QUEUED:
            return None
        return _ended(command, CommandState.CANCELLED, self.at, "cancelled", f"cancelled by {self.actor}")


class Withdrawn(msgspec.Struct, frozen=True):
    """Nothing is to come of it any more: `error`, one of GIVEN_UP, says why, and `error_message` in words."""

    message_id: str
    error: str
    error_message: str
    at: int

    @classmethod
    def by_deletion(cls, message_id: str, at: int) -> "Withdrawn":
        """Its device is no more: whoever comes by that id later is another one."""
        return cls(message_id, DEVICE_DELETED, "its device was deleted", at)

    def apply(self, command: Command, policy: CommandPolicy) -> Change | None:
        """What waits is cancelled. What is on its way may have been done: unknown, which a late word resolves; another phone may try."""
        if command.state is QUEUED:
            return _ended(command, CommandState.CANCELLED, self.at, self.error, self.error_message)
        if command.state not in ON_ITS_WAY:
            return None
        if command.any_device and command.may_be_repeated:
            return _try_again(command, policy, self.at, 0, self.error, self.error_message)
        return _ended(command, UNKNOWN, self.at, self.error, self.error_message)


class Requeued(msgspec.Struct, frozen=True):
    """Its operator wants it tried again, with all its retries and as long a life as at first."""

    message_id: str
    actor: str
    at: int

    def apply(self, command: Command, policy: CommandPolicy) -> Change | None:
        """Only what has ended badly."""
        if command.state not in REQUEUEABLE:
            return None
        life_ms = command.life_ms or command.expires_at - command.created_at
        expires_at = self.at + life_ms
        now = _replace(
            command,
            QUEUED,
            attempts_before=command.attempts,
            not_before=None,
            expires_at=expires_at,
            life_ms=life_ms,
            deadline_at=expires_at,
            final_at=None,
            error=None,
            error_message=None,
            result=None,
        )
        return Change(_unchosen(now), Step(at=self.at, state=QUEUED, attempt=command.attempts + 1, detail={"requeued_by": self.actor}))


CommandEvent = Dispatched | Unsent | LinkLost | TimedOut | Heard | Cancelled | Withdrawn | Requeued


def _forward(command: Command, answer: Answer, policy: CommandPolicy) -> Change | None:
    state = _OF_OUTCOME[answer.outcome]
    if state is DELIVERED and answer.is_delivery_report and not answer.is_read and (part := part_of(command, answer)) is not None:
        if not part.is_whole:
            return _part_delivered(command, answer, part, policy)
        answer = msgspec.structs.replace(answer, result={**(answer.result or {}), **part.result})
    if RANKS[state] <= RANKS.get(command.state, 0):
        return None
    result = {**(command.result or {}), **(answer.result or {})} or None
    if state is ACCEPTED:
        now = _replace(command, state, deadline_at=answer.at + round(1000 * (policy.accepted_s + _delay_s(command))))
    elif state is SENT and command.delivery_report:
        now = _replace(command, state, deadline_at=answer.at + round(1000 * policy.delivery_s), final_at=None, result=result)
        now = msgspec.structs.replace(now, error=None, error_message=None)
    else:
        now = _replace(command, state, deadline_at=None, final_at=answer.at, result=result, error=None, error_message=None)
    if command.state is QUEUED:  # an answer that came after its attempt was given up: it was done after all
        now = msgspec.structs.replace(now, not_before=None)
    return Change(now, Step(at=answer.at, state=state, attempt=command.attempts, detail=_brief(answer)))


def _part_delivered(command: Command, answer: Answer, part: Part, policy: CommandPolicy) -> Change | None:
    """One part of a long SMS has arrived, and more are awaited."""
    step = Step(at=answer.at, state=command.state, attempt=command.attempts, detail=part.detail)
    if not part.is_news:
        return Change(command, step) if part.detail else None
    if command.state is not SENT:  # a part has arrived before the phone said that it sent it: so it was sent
        sent = msgspec.structs.replace(answer, outcome=Outcome.SENT, result=part.result)
        change = _forward(command, sent, policy)
    else:
        change = Change(msgspec.structs.replace(command, result={**(command.result or {}), **part.result}), step)
    if change is None or UNNUMBERED not in part.result or change.command.final_at is not None:
        return change
    deadline_at = answer.at + round(1000 * policy.parts_settle_s)
    return change._replace(command=msgspec.structs.replace(change.command, deadline_at=deadline_at))


def _read(command: Command, answer: Answer) -> Change | None:
    """A message that had been delivered was read: it stays delivered."""
    if (command.result or {}).get("read"):
        return None
    now = msgspec.structs.replace(command, result={**(command.result or {}), **(answer.result or {})})
    return Change(now, Step(at=answer.at, state=command.state, attempt=command.attempts, detail=_brief(answer)))


def _session_ended(command: Command, answer: Answer) -> Change:
    """It was answered, and stays so; but there is nothing to reply to any more."""
    now = msgspec.structs.replace(command, result={**(command.result or {}), SESSION_OVER: answer.error_message})
    return Change(now, Step(at=answer.at, state=command.state, attempt=command.attempts, detail={SESSION_OVER: answer.error_message}))


def _try_again(
    command: Command,
    policy: CommandPolicy,
    at: int,
    wait_ms: int,
    error: str,
    message: str | None,
    result: Mapping[str, Any] | None = None,
) -> Change:
    if command.attempts - command.attempts_before > policy.retries_of(command.kind):
        return _ended(command, CommandState.DEAD, at, error, message, result)
    if command.expires_at <= at + wait_ms:
        return _ended(command, CommandState.EXPIRED, at, error, message, result)
    return _queued_again(command, at, at + wait_ms, {"error": error, "error_message": message})


def _queued_again(command: Command, at: int, not_before: int, detail: Mapping[str, Any], attempts: int | None = None) -> Change:
    """Where phone and SIM were chosen for it, they are chosen anew."""
    made = command.attempts if attempts is None else attempts
    now = _replace(command, QUEUED, attempts=made, not_before=not_before if not_before > at else None, deadline_at=command.expires_at)
    # A late answer may bring it back from `unknown`.
    now = msgspec.structs.replace(now, final_at=None, error=detail.get("error"), error_message=detail.get("error_message"))
    return Change(_unchosen(now), Step(at=at, state=QUEUED, attempt=made + 1, detail=detail))


def _unchosen(command: Command) -> Command:
    """Phone and SIM are chosen anew; who had it last is noted, for a late word of that phone."""
    if command.any_device and command.device_id is not None:
        trace = {TRIED_BY: command.device_id} | ({} if command.sim_slot is None else {TRIED_SIM: command.sim_slot})
        command = msgspec.structs.replace(command, device_id=None, result={**(command.result or {}), **trace})
    return msgspec.structs.replace(command, sim_slot=None) if command.any_sim else command


def _as_tried(command: Command, device_id: str) -> Command:
    """A command that waits for any phone again, as this one had it last: it may have done it after all."""
    known = command.result or {}
    if command.state is not QUEUED or command.device_id is not None or known.get(TRIED_BY) != device_id:
        return command
    sim_slot = known.get(TRIED_SIM) if command.sim_slot is None else command.sim_slot
    return msgspec.structs.replace(command, device_id=device_id, sim_slot=sim_slot, result=_untraced(known))


def _untraced(result: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return {name: value for name, value in (result or {}).items() if name not in (TRIED_BY, TRIED_SIM)} or None


def _ended(
    command: Command, state: CommandState, at: int, error: str | None, message: str | None, result: Mapping[str, Any] | None = None
) -> Change:
    merged = {**(command.result or {}), **(result or {})} or None
    now = _replace(command, state, deadline_at=None, final_at=at, error=error, error_message=message, result=merged)
    return Change(now, Step(at=at, state=state, attempt=command.attempts, detail={"error": error, "error_message": message}))


def _replace(command: Command, state: CommandState, **changes: Any) -> Command:
    return msgspec.structs.replace(command, state=state, **changes)


def _brief(answer: Answer) -> Mapping[str, Any] | None:
    """What a timeline says of an answer: never the text of a message."""
    if answer.is_read:
        return {"delivery_report": True, "read": True}
    if answer.is_delivery_report:
        return {"delivery_report": True}
    return None


def _delay_s(command: Command) -> float:
    """The `delay` of a USSD command, counted as seconds where a deadline is extended (C-30)."""
    delay = command.data.get("delay", 0)
    return float(delay) if isinstance(delay, int) and delay > 0 else 0.0
