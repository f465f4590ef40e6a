"""One client that says too much takes nothing from the others (H27); two hundred behind one address are two hundred (H28)."""

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from signal_gateway.testing.client import Client
from signal_gateway.testing.device import SimulatedDevice
from signal_gateway.testing.world import World
from tests.websocket.talk import connect, frame, hear, phone_headers

QUIET = 20
SECONDS = 10
RATE = 100
"""What a client may say in a second (limits.data_per_s): 200 at once, 200 frames of any kind a second after 400."""
TIMES = 50

NOISE: dict[str, tuple[bytes, float, str]] = {
    "heartbeats": (frame(FrameType.HEARTBEAT, {"timestamp": 1}), RATE, "limits.data_per_s"),
    "reports": (frame(FrameType.REPORT, {"type": "alarm", "data": {"alarm_type": "offline"}}), RATE, "limits.data_per_s"),
    "requests": (
        frame(FrameType.REGISTER, {"version": "1.0.0", "client_id": "test_client_1", "auth_token": "test_token_1"}),
        RATE / 60,
        "limits.control_per_min",
    ),
}
"""What is said too often, how often it may be said, and the limit that it meets."""


@pytest.mark.slow
@pytest.mark.parametrize(("message", "rate", "limit"), NOISE.values(), ids=NOISE.keys())
async def test_one_client_at_fifty_times_its_rate_takes_no_answer_from_the_others(
    autojump_clock: MockClock, world: World, message: bytes, rate: float, limit: str
):
    """Twenty others beat five times a second and report once: all is answered in the same instant of the clock, and none is refused."""
    late: list[float] = []
    refused: list[Any] = []
    noisy_errors: list[tuple[int, str]] = []
    answered = 0
    begun_at = trio.current_time()

    async def quiet(number: int) -> None:
        nonlocal answered
        async with world.dial("/ws", phone_headers(f"quiet-{number}")) as phone:
            await hear(phone)
            for beat in range(5 * SECONDS):
                said_at = trio.current_time()
                kind = "alarm" if beat % 5 == 0 else "heartbeat"
                data = {"alarm_type": "offline"} if kind == "alarm" else {}
                await phone.send(json.dumps({"type": kind, "request_id": str(beat), "data": data}))
                answer = await hear(phone)
                if answer != {"type": "ack", "request_id": str(beat)}:
                    refused.append(answer)
                late.append(trio.current_time() - said_at)
                answered += 1
                await trio.sleep(0.2)

    async def hear_on(agent: Client) -> None:
        while True:
            answer_type, _, _, answer = await hear(agent)
            if answer_type is FrameType.ERROR:
                noisy_errors.append((answer["status"], answer["reason"]))

    async with world.dial() as noisy, trio.open_nursery() as nursery:
        await connect(noisy)
        nursery.start_soon(hear_on, noisy)
        async with trio.open_nursery() as quiet_ones:
            for number in range(QUIET):
                quiet_ones.start_soon(quiet, number)
            with trio.move_on_after(SECONDS):
                while True:
                    for _ in range(max(1, round(TIMES * rate / 50))):
                        await noisy.send(message)
                    await trio.sleep(1 / 50)
        assert world.gateway.hub.link_of("test_client_1") is not None  # to be noisy is no reason to be closed
        nursery.cancel_scope.cancel()

    assert (answered, refused) == (QUIET * 5 * SECONDS, [])
    assert max(late) <= 0.05
    metrics = world.metrics
    name = "register" if limit == "limits.control_per_min" else "heartbeat" if message == NOISE["heartbeats"][0] else "alarm"
    heard = metrics.messages.value("in", name) - (QUIET * SECONDS * {"heartbeat": 4, "alarm": 1}.get(name, 0))
    assert metrics.limits.value(limit) > 0
    assert heard - metrics.limits.value(limit) <= 2 * RATE + (trio.current_time() - begun_at) * rate + 1  # its burst, and its rate
    assert set(noisy_errors) == {(429, "rate_limited")}
    assert len(noisy_errors) <= trio.current_time() - begun_at + 1
    assert rate < RATE or metrics.limits.value("limits.frames_per_s") > 0
    assert not any(metrics.errors.values.values())


DEVICES = 200


def fleet(world: World) -> list[SimulatedDevice]:
    """Half phones, half agents, all behind one address."""
    phones = [world.phone(number) for number in range(DEVICES // 2)]
    agents = [world.agent(f"unit-{number}", "demo-enrolment-key", registers=True) for number in range(DEVICES // 2)]
    return [*phones, *agents]


@pytest.mark.slow
async def test_two_hundred_devices_behind_one_address_all_get_their_link_and_none_is_refused(autojump_clock: MockClock, world: World):
    for device in fleet(world):
        await world.links.start(device.live)
    assert world.numbers.links == len(world.gateway.hub) == DEVICES
    assert not world.numbers.failures
    assert world.metrics.limits.value("security.max_connections_per_ip") == 0


@pytest.mark.slow
async def test_two_hundred_that_come_at_once_from_one_address_are_all_there_after_their_retries(autojump_clock: MockClock, world: World):
    """64 may be unauthenticated at a time; who is over that is told 429 and comes back after 1 to 5 s."""
    async with trio.open_nursery() as nursery:
        for device in fleet(world):
            nursery.start_soon(world.links.start, device.live)
    assert world.numbers.links == len(world.gateway.hub) == DEVICES
    assert set(world.numbers.failures) <= {"no link: 429"}
    assert trio.current_time() <= 60


async def test_a_stranger_of_the_same_address_is_not_kept_out_by_two_hundred_that_are_in(autojump_clock: MockClock, world: World):
    for device in fleet(world)[: DEVICES // 4]:
        await world.links.start(device.live)
    async with world.dial() as agent:
        assert (await connect(agent))["status"] == 200
