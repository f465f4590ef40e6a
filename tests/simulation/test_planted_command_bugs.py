"""The laws of commands are checked: a gateway with a bug in it is found out, and each time for the right reason."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from signal_gateway.domain import sim_limits
from signal_gateway.domain.command import Command, CommandState
from signal_gateway.domain.command_rules import Change, CommandPolicy, Dispatched, Heard
from signal_gateway.domain.events import CommandDue
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.sim_limits import SimUsage
from signal_gateway.services import command_lanes
from signal_gateway.services.command_lanes import Lane
from signal_gateway.services.command_reports import CommandReports
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.commands import Commands
from signal_gateway.services.dispatcher import Dispatcher
from signal_gateway.storage import command_changes
from signal_gateway.storage import commands as kept
from signal_gateway.testing.command_laws import breaches
from signal_gateway.testing.simulation import simulated
from signal_gateway.testing.simulation_plan import OPERATED

pytestmark = pytest.mark.slow

PLAN = replace(
    OPERATED,
    phones=2,
    storm_s=1200.0,
    calm_s=2000.0,
    lives=4,
    slow_answer_chance=0.3,
    command_every_s=8.0,
    ttl_s=600.0,
    commands=CommandsSettings(delivery_s=900.0, dispatched_s=60.0, sim_park_max_s=300.0),
    phone_settings=PhoneSettings(enable_sms_limits=True, sim1_daily_sms_limit=60, sim2_daily_sms_limit=30, sim1_guard_interval=10),
)
SEEDS = range(4)

Plant = Callable[[pytest.MonkeyPatch], None]


def accept_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def promise(self: Commands, request: Any, operator: Any) -> Command:
        keeping = self._keeping(request, operator, request.idempotency_key)
        command = await self._draft(keeping, operator)
        self._writer.post(kept.keep, command, keeping.done, lasts=False)
        return command

    monkeypatch.setattr(Commands, "submit", promise)


def send_again_what_was_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Command, "may_be_repeated", property(lambda _command: True))


def take_a_late_failure_for_one_of_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Heard._judge

    def forgetful(self: Heard, command: Command, policy: CommandPolicy) -> Change | None:
        change = judge(self, command, policy)
        if change is None and self.answer.is_delivery_report and command.state is CommandState.SENT:
            now = msgspec.structs.replace(command, state=CommandState.QUEUED, final_at=None, deadline_at=command.expires_at)
            return Change(now, command_changes.Step(at=self.at, state=now.state, attempt=now.attempts + 1))
        return change

    monkeypatch.setattr(Heard, "_judge", forgetful)


def send_two_things_at_once_by_one_sim(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Lane.claim

    def claim_nothing(self: Lane, message_id: str, place: Any) -> None:
        claim(self, message_id, place)
        self.busy.clear()

    monkeypatch.setattr(Lane, "claim", claim_nothing)


def forget_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim_limits, "_limit", lambda *_arguments: None)


def forget_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    used = command_changes.used

    def forget(*arguments: Any) -> SimUsage:
        return msgspec.structs.replace(used(*arguments), last_sent_at=None)

    monkeypatch.setattr(command_changes, "used", forget)


def send_the_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_lanes, "order_of", lambda command: (-command.priority, -command.id))


def send_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    apply, line_up = Dispatched.apply, Dispatcher._line_up

    def hurry(self: Dispatched, command: Command, policy: CommandPolicy) -> Change | None:
        return apply(self, msgspec.structs.replace(command, not_before=None), policy)

    def line_up_at_once(self: Dispatcher, command: Command) -> None:
        line_up(self, msgspec.structs.replace(command, not_before=None))

    monkeypatch.setattr(Dispatched, "apply", hurry)
    monkeypatch.setattr(Dispatcher, "_line_up", line_up_at_once)


def never_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "overdue", lambda *_arguments: [])


def forget_a_step_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    write = kept.write_steps

    def write_some(connection: Any, steps: Any) -> None:
        write(connection, [step for step in steps if step[1].at % 10])

    monkeypatch.setattr(kept, "write_steps", write_some)


def acknowledge_reports_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hear, heard = CommandReports.hear, [0]

    def hear_some(self: CommandReports, answer: Any) -> bool:
        heard[0] += 1
        return hear(self, answer) if heard[0] % 4 else True

    monkeypatch.setattr(CommandReports, "hear", hear_some)


def send_before_it_is_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so again after a crash, when the disk knows nothing of it."""
    claim = Dispatcher._claim

    def say_first(self: Dispatcher, lane: Lane, command: Command, place: Any, now: int) -> None:
        told = msgspec.structs.replace(command, device_id=lane.device.device_id, sim_slot=place)
        self._bus.publish(CommandDue(told))
        claim(self, lane, command, place, now)

    monkeypatch.setattr(Dispatcher, "_claim", say_first)


def believe_what_was_read_before_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    follow = Lane.follow

    def follow_and_forget(self: Lane, *arguments: Any) -> None:
        follow(self, *arguments)
        self.changed.clear()

    monkeypatch.setattr(Lane, "follow", follow_and_forget)


FOUND_OUT: list[tuple[Plant, str]] = [
    (accept_before_the_commit, "was accepted and is gone"),
    (send_again_what_was_not_answered, "was done 2 times"),
    (take_a_late_failure_for_one_of_the_next_attempt, "was done 2 times"),
    (send_two_things_at_once_by_one_sim, "which was busy with"),
    (forget_the_limits, ", and may "),
    (forget_the_pause, "ms after another"),
    (send_the_newest_first, "set out before"),
    (send_too_early, "ms too early"),
    (never_give_up, "for ever"),
    (forget_a_step_now_and_then, "and its timeline ends with"),
    (acknowledge_reports_that_change_nothing, "was reported as done and acknowledged"),
    (send_before_it_is_on_disk, "was done 2 times"),
    (believe_what_was_read_before_it_changed, "is taken to be busy with"),
]


TRIED = FOUND_OUT if "SIMULATED_SEEDS" in os.environ else FOUND_OUT[:-1:8]
"""Each takes several seconds: on a change two of them; in a longer run of simulations all."""


@pytest.mark.parametrize(("plant", "words"), TRIED, ids=[f"{plant.__name__}: {words}" for plant, words in TRIED])
def test_a_planted_bug_is_found_out(monkeypatch: pytest.MonkeyPatch, plant: Plant, words: str):
    plant(monkeypatch)
    found: list[str] = []
    for seed in SEEDS:
        found += breaches(simulated(PLAN, seed).commands)
        if any(words in finding for finding in found):
            return
    pytest.fail(f"not among the findings: {words!r}\n" + "\n".join(found[:20]))


def test_without_a_bug_nothing_is_found():
    assert breaches(simulated(PLAN, 0).commands) == []
