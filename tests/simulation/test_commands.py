"""A fleet of rough phones, an operator who sends, a gateway that crashes: nothing accepted is lost, doubled or told wrongly."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.command import CommandKind, CommandRequest, CommandState, Step, Target
from signal_gateway.domain.errors import GatewayError
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.storage import commands as kept
from signal_gateway.storage.inline import Image, InlineDatabase
from signal_gateway.testing import command_laws
from signal_gateway.testing.behaviour import ROUGH
from signal_gateway.testing.command_laws import CommandHistory, breaches
from signal_gateway.testing.faults import FaultPlan
from signal_gateway.testing.history import History
from signal_gateway.testing.modem import Effect
from signal_gateway.testing.world import World, open_world
from tests.domain.commands_made import AT, command
from tests.websocket.conftest import DEMO_AUTH

BOSS = Operator("boss", Role.ADMIN)
PHONES = 5
BAD_NETWORK = FaultPlan(
    delay_s=(0.0, 2.0), stall_chance=0.01, cut_chance=0.01, reset_chance=0.01, vanish_chance=0.005, notice_s=(5.0, 60.0)
)
HOUR_S = 3600.0
S = CommandState


def config() -> Config:
    commands = CommandsSettings(ttl_s=2 * HOUR_S, delivery_s=HOUR_S, sim_park_after=1000)
    return Config(auth=DEMO_AUTH, commands=commands)


def some_request(random: Random, number: int) -> CommandRequest:
    """Anything that an operator may want."""
    kind = random.choice([CommandKind.SEND_SMS] * 6 + [CommandKind.SEND_USSD, CommandKind.SEND_RCS, CommandKind.FIND_DEVICE])
    phone_number, message = f"+90555{random.randrange(10**7):07d}", f"message {number}"
    data: Mapping[CommandKind, dict[str, Any]] = {
        CommandKind.SEND_SMS: {"phone_number": phone_number, "message": message},
        CommandKind.SEND_RCS: {"phone_number": phone_number, "message": message},
        CommandKind.SEND_USSD: {"ussd_code": random.choice(["*123#", "*100#"])},
        CommandKind.FIND_DEVICE: {"message": message},
    }
    is_for_any = kind is CommandKind.SEND_SMS and random.random() < 0.2
    return CommandRequest(
        kind=kind,
        target=Target(None if is_for_any else f"sim-phone-{random.randrange(PHONES):04d}"),
        data=data[kind],
        sim_slot=None if is_for_any else random.choice((0, 0, None)),
        priority=random.choice((0, 0, 50, 100)),
        delivery_report=random.random() < 0.5,
        message_id=f"m{number}",
    )


async def operate(world: World, random: Random, numbers: range, accepted: list[str]) -> None:
    """Send, with pauses, and note what was accepted."""
    for number in numbers:
        await trio.sleep(random.expovariate(1 / 20))
        with suppress(GatewayError):  # a crash came between: nothing was promised
            accepted.append((await world.gateway.commands.submit(some_request(random, number), BOSS)).message_id)


async def history_of(world: World, accepted: list[str], effects: list[Effect]) -> CommandHistory:
    commands = {each.message_id: each for each in await world.gateway.commands.search(BOSS, limit=10_000)}
    steps: dict[str, list[Step]] = {each: await world.database.read(partial(kept.steps_of, message_id=each)) for each in commands}
    return CommandHistory(accepted, commands, steps, effects)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_whatever_phones_networks_and_crashes_do_no_law_is_broken(autojump_clock: MockClock, seed: int):
    random = Random(f"commands {seed}")
    accepted: list[str] = []
    effects: list[Effect] = []
    image: Image | None = None
    told = History()  # goes on from life to life, and its clock with it
    for life in range(4):
        database = InlineDatabase(image=image)
        async with open_world(config(), seed=100 * seed + life, database=database, faults=BAD_NETWORK, history=told) as world:
            phones = [world.phone(number, behaviour=ROUGH) for number in range(PHONES)]
            for phone in phones:
                world.links.start_soon(phone.live)
            if life == 0:
                await trio.sleep(30)  # all have enrolled
            async with trio.open_nursery() as nursery:
                nursery.start_soon(operate, world, random, range(60 * life, 60 * life + 60), accepted)
                await trio.sleep(random.uniform(300, 900))
                nursery.cancel_scope.cancel()
            if life < 3:
                image = world.crash()
            else:
                world.network.plan = FaultPlan()
                await trio.sleep(4 * HOUR_S)  # everything that may still happen has happened
                effects += [effect for phone in phones for effect in phone.modem.effects]
                history = await history_of(world, accepted, effects)
                assert len(history.commands) >= len(accepted) > 60
                assert breaches(history) == []
                states = {each.state for each in history.commands.values()}
                assert {S.SENT, S.DELIVERED, S.UNKNOWN} <= states
                assert world.gateway.dispatcher.open.total == 0
        if life < 3:
            effects += [effect for phone in phones for effect in phone.modem.effects]
        database.close()


STRAIGHT = command(state=S.SENT, attempts=1, deadline_at=None, final_at=AT + 2, dispatched_at=AT + 1)
STEPS = (Step(at=AT + 1, state=S.DISPATCHED, attempt=1), Step(at=AT + 2, state=S.SENT, attempt=1))
EFFECT = Effect("send_sms", "phone-1", "m1", 0, 1.0, "hello")
WELL = CommandHistory(["m1"], {"m1": STRAIGHT}, {"m1": STEPS}, [EFFECT])


def test_a_straight_history_breaks_no_law():
    assert breaches(WELL) == []


def step(state: CommandState, attempt: int = 1, at: int = AT + 3) -> Step:
    return Step(at=at, state=state, attempt=attempt)


def changed(**changes: Any) -> Mapping[str, Any]:
    return {"m1": msgspec.structs.replace(STRAIGHT, **changes)}


BREACHES: list[tuple[command_laws.Law, CommandHistory]] = [
    (command_laws.nothing_is_lost, CommandHistory(["m1", "m2"], {"m1": STRAIGHT}, {"m1": STEPS}, [EFFECT])),
    (command_laws.everything_ends, CommandHistory(["m1"], changed(final_at=None), {"m1": STEPS}, [EFFECT])),
    (command_laws.everything_ends, CommandHistory(["m1"], changed(deadline_at=AT), {"m1": STEPS}, [EFFECT])),
    (command_laws.nothing_is_done_twice, CommandHistory(["m1"], {"m1": STRAIGHT}, {"m1": STEPS}, [EFFECT, EFFECT])),
    (command_laws.what_is_told_was_done, CommandHistory(["m1"], {"m1": STRAIGHT}, {"m1": STEPS})),
    (command_laws.what_is_told_was_done, CommandHistory(["m1"], changed(device_id="phone-2"), {"m1": STEPS}, [EFFECT])),
    (command_laws.no_step_leads_back, CommandHistory(["m1"], {"m1": STRAIGHT}, {"m1": (*STEPS, step(S.DISPATCHED))}, [EFFECT])),
    (command_laws.no_step_leads_back, CommandHistory(["m1"], {"m1": STRAIGHT}, {"m1": (step(S.FAILED), step(S.SENT))}, [EFFECT])),
    (command_laws.the_last_step_is_the_state, CommandHistory(["m1"], {"m1": STRAIGHT}, {"m1": STEPS[:1]}, [EFFECT])),
    (
        command_laws.first_tries_go_in_order,
        CommandHistory(
            ["m1", "m2"],
            {"m1": STRAIGHT, "m2": msgspec.structs.replace(STRAIGHT, id=2, message_id="m2")},
            {"m1": STEPS, "m2": (step(S.DISPATCHED, at=AT),)},
        ),
    ),
    (
        command_laws.a_sim_does_one_thing_at_a_time,
        CommandHistory(
            ["m1", "m2"],
            {"m1": STRAIGHT, "m2": msgspec.structs.replace(STRAIGHT, id=2, message_id="m2")},
            {"m1": STEPS, "m2": (step(S.DISPATCHED, at=AT + 1),)},
        ),
    ),
    (command_laws.nothing_sets_out_too_late, CommandHistory(["m1"], changed(expires_at=AT), {"m1": STEPS}, [EFFECT])),
]


@pytest.mark.parametrize(("law", "history"), BREACHES)
def test_every_law_sees_its_breach(law: command_laws.Law, history: CommandHistory):
    assert list(law(history))
    assert list(law(WELL)) == []


def test_no_law_is_without_a_breach():
    assert {law for law, _ in BREACHES} == set(command_laws.LAWS)
