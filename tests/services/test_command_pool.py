"""Commands for any phone: each stands in every phone's line, by its priority and age, and waits for nothing else that is there."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import trio
from trio.testing import MockClock

from signal_gateway.domain.access import Scope
from signal_gateway.domain.command import Command, CommandKind, CommandRequest, Target, Wait
from signal_gateway.domain.events import DeviceLinked
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.sim_limits import SimRules, SimUsage
from signal_gateway.services.command_lanes import BUSY, Lane, Sim
from signal_gateway.services.command_pool import AWAITED_MS, CommandPool
from signal_gateway.services.device_directory import KnownDevice
from signal_gateway.testing.world import open_world
from tests.domain.commands_made import AT, command
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, log_of, patient, sms, submit, told

USSD = CommandKind.SEND_USSD
RULES = SimRules(limits_enabled=True, daily_max=1, monthly_max=1000, guard_s=0)
DAY_ENDS = RULES.windows(AT).day_ends_at
OF_TODAY = RULES.windows(AT)
USED_UP = SimUsage(day=OF_TODAY.day, month=OF_TODAY.month, day_used=1, month_used=1)


def own(number: int, **said: Any) -> Command:
    return command(id=number, message_id=f"m{number}", **said)


def anyones(number: int, **said: Any) -> Command:
    return own(number, **{"device_id": None, "sim_slot": None, "any_device": True, "any_sim": True, **said})


def lane(device_id: str, *commands: Command, rules: SimRules = RULES, usage: SimUsage | None = None) -> Lane:
    """A phone with one SIM, and these in its line."""
    made = Lane(KnownDevice(device_id, "phone", None, PhoneSettings()), lambda _device, _slot: rules)
    made.sims, made.usages, made.is_loaded = (Sim(0, None),), {} if usage is None else {0: usage}, True
    for each in commands:
        made.offer(each)
    return made


def pool_of(lanes: list[Lane], *commands: Command) -> CommandPool:
    of = {each.device.device_id: each for each in lanes}
    made = CommandPool(of, dict[str, DeviceLinked]())
    for each in commands:
        made.offer(each)
    return made


def chosen(pool: CommandPool) -> list[tuple[str, str]]:
    """Which goes to which phone."""
    return [(command.message_id, lane.device.device_id) for command, lane, _ in pool.next_ones(AT)]


def test_what_only_another_limit_lets_through_holds_nothing_back():
    pool = pool_of([lane("a", own(1, segments=2))], anyones(2))
    assert (chosen(pool), pool.waits) == ([("m2", "a")], {})


def test_what_holds_sms_back_holds_no_other_kind_back():
    poor = SimRules(guard_s=0, low_balance=Decimal(5))
    pool = pool_of([lane("a", own(1), rules=poor, usage=SimUsage(balance="1"))], anyones(2, kind=USSD), anyones(3))
    assert (chosen(pool), pool.waits) == ([("m2", "a")], {"m3": BUSY})
    rests = SimUsage(parked_until=AT + 5000)
    pool = pool_of([lane("a", own(1), usage=rests)], anyones(2, kind=USSD))
    assert (chosen(pool), pool.waits) == ([], {"m2": Wait("sim_parked", AT + 5000)})


def test_it_stands_before_what_comes_later_or_is_less_urgent_and_behind_the_rest():
    cases = [(own(1, priority=-50), anyones(2)), (own(3), anyones(2)), (own(1), anyones(2, priority=100))]
    for before, behind in cases:
        pool = pool_of([lane("a", before)], behind)
        assert chosen(pool) == [("m2", "a")]
    for before, behind in ((own(1), anyones(2)), (own(3, priority=50), anyones(2))):
        pool = pool_of([lane("a", before)], behind)
        assert (chosen(pool), pool.waits) == ([], {"m2": BUSY})


def test_it_goes_to_the_phone_whose_line_is_free():
    pool = pool_of([lane("a", own(1)), lane("b"), lane("c", usage=USED_UP)], anyones(2), anyones(3))
    assert chosen(pool) == [("m2", "b")]
    assert pool.waits == {"m3": BUSY}


def test_it_tells_of_the_wait_that_ends_first_among_the_phones_that_may_take_it():
    rests = SimUsage(parked_until=AT + 5000)
    pool = pool_of([lane("a", usage=USED_UP), lane("b", usage=rests)], anyones(2))
    assert (chosen(pool), pool.waits) == ([], {"m2": Wait("sim_parked", AT + 5000)})
    pool = pool_of([lane("a", usage=USED_UP)], anyones(2), anyones(3, sim_slot=1), anyones(4, device_group="others"))
    assert (chosen(pool), pool.waits) == ([], {"m2": Wait("daily_limit", DAY_ENDS), "m3": Wait("no_phone"), "m4": Wait("no_phone")})


def unread(device_id: str, device_group: str | None = None) -> Lane:
    """A phone whose lane is being read."""
    return Lane(KnownDevice(device_id, "phone", device_group, PhoneSettings()), lambda _device, _slot: RULES)


def test_it_waits_a_little_for_phones_that_are_being_read():
    pool = pool_of([lane("a"), unread("b")], anyones(2))
    assert (chosen(pool), pool.waits) == ([], {"m2": Wait("order")})
    assert pool.wakes_at(AT) == AT + AWAITED_MS
    for later, expected in ((AT + AWAITED_MS - 1, []), (AT + AWAITED_MS, ["m2"]), (AT + AWAITED_MS + 1, ["m2"])):
        assert [command.message_id for command, _, _ in pool.next_ones(later)] == expected
    assert pool.wakes_at(AT + AWAITED_MS) == AT + AWAITED_MS + 1000
    assert [command.message_id for command, _, _ in pool.next_ones(AT - 86_400_000)] == ["m2"]  # the wall clock was set back


def test_it_waits_for_no_phone_that_may_not_take_it():
    lanes = [lane("a"), unread("b", "others"), unread("c")]
    lanes[0].device = KnownDevice("a", "phone", "mine", PhoneSettings())
    pool = pool_of(lanes, anyones(2, device_group="mine"))
    assert chosen(pool) == [("m2", "a")]
    pool = pool_of(lanes, anyones(2, scope=Scope(devices=frozenset({"a", "b"}))))
    assert chosen(pool) == []


async def test_the_first_command_goes_to_the_phone_with_the_most_left_whichever_is_read_first(autojump_clock: MockClock):
    for slow in ("few", "many"):
        config = patient(phones=PhoneSettings(enable_sms_limits=True))
        async with (
            open_world(config) as world,
            world.dial("/ws", phone_headers("few")) as few,
            world.dial("/ws", phone_headers("many")) as many,
        ):
            for phone, left in ((few, 3), (many, 10)):
                await hear(phone)
                await world.gateway.devices.change_settings("few" if phone is few else "many", {"sim1_daily_sms_limit": left}, BOSS)
                await hear(phone)
            read, look_up = world.gateway.dispatcher._reader, world.database.look_up

            async def slowly(work: Any, slow: str = slow, look_up: Any = look_up) -> Any:
                seen = await look_up(work)
                await trio.sleep(0.2 if getattr(work, "keywords", {}).get("device_id") == slow else 0)
                return seen

            read._database = SimpleNamespace(look_up=slowly)  # type: ignore[assignment]
            await submit(world, sms(None))
            assert (await told(many) or {})["type"] == "send_sms"


async def test_an_urgent_command_to_a_group_goes_before_what_its_phone_has_in_line(autojump_clock: MockClock):
    config = patient(phones=PhoneSettings(sim1_guard_interval=2))
    async with open_world(config) as world, world.dial("/ws", phone_headers(device_group="shop")) as phone:
        await hear(phone)
        low = [await submit(world, sms(sim_slot=0, priority=-50)) for _ in range(3)]
        first = await told(phone)
        asked = CommandRequest(kind=CommandKind.SEND_SMS, target=Target(device_group="shop"), data=sms().data, priority=100)
        urgent = await submit(world, asked)
        await trio.sleep(1)
        assert (await world.gateway.commands.view(urgent, BOSS)).waits == BUSY
        order: list[str] = []
        heard = first
        while heard is not None:
            order.append(heard["message_id"])
            await log_of(phone, heard)
            heard = await told(phone, 10)
        assert order == [low[0], urgent, *low[1:]]
