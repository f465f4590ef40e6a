"""A fleet of rough phones, an operator who sends, a gateway that crashes: nothing accepted is lost, doubled or told wrongly (H19, H20).

SIMULATED_SEEDS says how many runs; a release makes hundreds: `python -m signal_gateway.testing.simulation --operated --seeds 0:500`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import pytest

from signal_gateway.domain.command import CommandKind, CommandRequest, CommandState, Step, Target
from signal_gateway.domain.sim_limits import SimRules
from signal_gateway.testing import command_laws
from signal_gateway.testing.checker import check
from signal_gateway.testing.command_laws import CommandHistory, breaches
from signal_gateway.testing.handset import Effect
from signal_gateway.testing.simulation import Simulation, simulated
from signal_gateway.testing.simulation_plan import OPERATED
from tests.domain.commands_made import AT, command

S = CommandState
SEEDS = int(os.environ.get("SIMULATED_SEEDS", "1"))


@cache
def operated(seed: int) -> Simulation:
    return simulated(OPERATED, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_phones_networks_and_crashes_do_no_law_is_broken(seed: int):
    simulation = operated(seed)
    assert breaches(simulation.commands) == []
    assert check(simulation.history) == []
    commands = simulation.commands
    states = {each.state for each in commands.commands.values()}
    assert {S.SENT, S.DELIVERED, S.UNKNOWN, S.EXPIRED, S.CANCELLED} <= states
    assert len(commands.effects) > 200 < len(commands.accepted)
    assert len(commands.reported) > 50
    assert len([step for steps in commands.steps.values() for step in steps if step.attempt > 1]) > 20


STRAIGHT = command(state=S.SENT, attempts=1, deadline_at=None, final_at=AT + 2, dispatched_at=AT + 1)
STEPS = (Step(at=AT + 1, state=S.DISPATCHED, attempt=1), Step(at=AT + 2, state=S.SENT, attempt=1))
EFFECT = Effect("send_sms", "phone-1", "m1", 0, AT + 1, "hello", 1)
WELL = CommandHistory(["m1"], {"m1": STRAIGHT}, {"m1": STEPS}, [EFFECT])


def test_a_straight_history_breaks_no_law():
    assert breaches(WELL) == []


def step(state: CommandState, attempt: int = 1, at: int = AT + 3, **detail: Any) -> Step:
    return Step(at=at, state=state, attempt=attempt, detail=detail or None)


def history(*steps: Step, effects: Sequence[Effect] = (EFFECT,), **changes: Any) -> CommandHistory:
    """That of one command that was accepted; without `steps`, the straight ones."""
    return CommandHistory(["m1"], {"m1": msgspec.structs.replace(STRAIGHT, **changes)}, {"m1": steps or STEPS}, effects)


def two(first: Sequence[Step], second: Sequence[Step], effects: Sequence[Effect] = (), **more: Any) -> CommandHistory:
    """That of two commands for the same SIM."""
    other = msgspec.structs.replace(STRAIGHT, id=2, message_id="m2")
    return CommandHistory(["m1", "m2"], {"m1": STRAIGHT, "m2": other}, {"m1": first, "m2": second}, effects, **more)


def rules(**changes: Any) -> Callable[[int], SimRules]:
    return lambda _slot: replace(SimRules(limits_enabled=True, daily_max=1, monthly_max=9, guard_s=0), **changes)


def asked(**changes: Any) -> CommandHistory:
    request = CommandRequest(kind=CommandKind.SEND_SMS, target=Target("phone-1"), data={}, **changes)
    return replace(WELL, asked={"m1": request})


LATER = (step(S.DISPATCHED, at=AT + 3), step(S.SENT, at=AT + 4))
SECOND = replace(EFFECT, message_id="m2", at=AT + 3)
BREACHES: list[tuple[command_laws.Law, CommandHistory]] = [
    (command_laws.nothing_is_lost, replace(WELL, accepted=["m1", "m2"])),
    (command_laws.everything_ends, history(final_at=None)),
    (command_laws.everything_ends, history(deadline_at=AT)),
    (command_laws.nothing_is_done_twice, history(effects=[EFFECT, EFFECT])),
    (command_laws.what_is_told_was_done, history(effects=())),
    (command_laws.what_is_told_was_done, history(device_id="phone-2")),
    (command_laws.what_was_done_is_told, history(STEPS[0], step(S.CANCELLED), state=S.CANCELLED)),
    (command_laws.what_was_done_had_set_out, history(effects=[replace(EFFECT, at=AT)])),
    (command_laws.what_was_done_had_set_out, history(effects=[replace(EFFECT, sim_slot=1)])),
    (command_laws.what_was_done_had_set_out, history(step(S.DISPATCHED, at=AT, device_id="phone-2", sim_slot=0), STEPS[1])),
    (command_laws.nothing_is_made_up, replace(WELL, asked={})),
    (command_laws.no_step_leads_back, history(*STEPS, step(S.DISPATCHED))),
    (command_laws.no_step_leads_back, history(step(S.FAILED), step(S.SENT))),
    (command_laws.no_step_leads_back, history(STEPS[0], step(S.FAILED), step(S.QUEUED, 2))),
    (command_laws.no_step_leads_back, history(STEPS[0], step(S.DELIVERED), step(S.QUEUED, 2, requeued_by="boss"))),
    (command_laws.the_last_step_is_the_state, history(STEPS[0])),
    (command_laws.first_tries_go_in_order, two(STEPS, [step(S.DISPATCHED, at=AT)])),
    (command_laws.nothing_sets_out_too_late, history(expires_at=AT)),
    (command_laws.nothing_sets_out_too_early, asked(not_before=AT + 2)),
    (command_laws.a_timeline_counts_its_attempts, history(attempts=2)),
    (command_laws.a_timeline_counts_its_attempts, history(step(S.DISPATCHED, attempt=2), step(S.SENT, attempt=2))),
    (command_laws.a_sim_does_one_thing_at_a_time, two(STEPS, [step(S.DISPATCHED, at=AT + 1), LATER[1]])),
    (command_laws.the_limits_of_a_sim_hold, two(STEPS, LATER, [EFFECT, SECOND], rules=rules())),
    (command_laws.the_limits_of_a_sim_hold, two(STEPS, LATER, [EFFECT, SECOND], rules=rules(daily_max=9, monthly_max=1))),
    (command_laws.the_limits_of_a_sim_hold, two(STEPS, LATER, [EFFECT, SECOND], rules=rules(daily_max=9, guard_s=1))),
    (command_laws.what_a_phone_has_reported_is_known, replace(history(STEPS[0], step(S.UNKNOWN), state=S.UNKNOWN), reported=["m1"])),
    (command_laws.what_has_ended_holds_nothing, replace(WELL, held=[("phone-1", "m1")])),
]


@pytest.mark.parametrize(("law", "history"), BREACHES)
def test_every_law_sees_its_breach(law: command_laws.Law, history: CommandHistory):
    assert list(law(history))
    assert list(law(WELL)) == []


def test_no_law_is_without_a_breach():
    assert {law for law, _ in BREACHES} == set(command_laws.LAWS)


ALLOWED: dict[str, CommandHistory] = {
    "a requeued command may be done again": history(
        *STEPS,
        step(S.UNKNOWN),
        step(S.QUEUED, 2, requeued_by="boss"),
        step(S.DISPATCHED, 2),
        step(S.SENT, 2),
        effects=[EFFECT, EFFECT],
        attempts=2,
        attempts_before=1,
    ),
    "what has failed may be requeued": history(
        STEPS[0],
        step(S.FAILED),
        step(S.QUEUED, 2, requeued_by="boss"),
        step(S.DISPATCHED, 2),
        step(S.SENT, 2),
        attempts=2,
        attempts_before=1,
    ),
    "a command that is safe to repeat may be done twice": history(effects=[EFFECT, EFFECT], retry_safe=True),
    "what was taken back before its first byte is no attempt": history(STEPS[0], step(S.QUEUED, at=AT + 1, reason="link_lost"), *STEPS),
    "one SIM does one thing after the other": two(STEPS, LATER, [EFFECT, SECOND], rules=rules(daily_max=2)),
    "limits that are switched off do not hold": two(STEPS, LATER, [EFFECT, SECOND], rules=rules(limits_enabled=False)),
    "what was reported by its phone and is known": replace(WELL, reported=["m1"]),
    "one part of a long message may arrive before the phone says that it was sent": history(
        STEPS[0], step(S.DISPATCHED, at=AT + 2, part=1, parts=2), step(S.SENT)
    ),
    "its time had come": asked(not_before=AT + 1),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_is_allowed_breaks_no_law(what: str):
    assert breaches(ALLOWED[what]) == []
