"""When a simulated device comes back, and when it stays away."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.testing.client import Client, NoLink
from signal_gateway.testing.numbers import FleetNumbers
from signal_gateway.testing.phone import SimulatedPhone, invent_phone
from signal_gateway.testing.world import open_world
from signal_gateway.websocket.server_settings import ServerSettings


async def dialled_at(refusal: NoLink, hour_s: float = 100.0) -> list[float]:
    """When a phone dials that is always refused with `refusal`."""
    times: list[float] = []

    @asynccontextmanager
    async def dial(resource: str, headers: Mapping[str, str]) -> AsyncGenerator[Client, None]:
        times.append(trio.current_time())
        raise refusal
        yield

    phone = SimulatedPhone(invent_phone(1, Random(1)), "key", dial, FleetNumbers(), Random(1))
    with trio.move_on_after(hour_s):
        await phone.live()
    return times


@pytest.mark.parametrize("status", [None, 429, 500, 503])
async def test_a_device_that_may_try_again_does_so_after_one_to_five_seconds(autojump_clock: MockClock, status: int | None):
    times = await dialled_at(NoLink("no", status))
    gaps = [after - before for before, after in pairwise(times)]
    assert len(gaps) > 10
    assert all(1 <= gap <= 5 for gap in gaps)


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_a_device_that_is_asked_to_wait_waits_as_long_and_comes_back_whatever_the_status(autojump_clock: MockClock, status: int):
    times = await dialled_at(NoLink("no", status, retry_after_s=7))
    gaps = [after - before for before, after in pairwise(times)]
    assert len(gaps) > 5
    assert all(8 <= gap <= 12 for gap in gaps)


@pytest.mark.parametrize("status", [400, 401, 403, 409])
async def test_a_device_that_is_refused_for_good_stays_away(autojump_clock: MockClock, status: int):
    assert len(await dialled_at(NoLink("no", status))) == 1


async def test_a_client_tells_after_how_many_seconds_the_server_wants_it_back(autojump_clock: MockClock):
    config = Config(auth=AuthSettings(enrolment_keys=("demo:demo-enrolment-key",)), server=ServerSettings(max_connections=1))
    async with open_world(config) as world:
        await world.links.start(world.phone(1).live)
        with pytest.raises(NoLink) as refused:
            async with world.dial("/ws"):
                pass
        assert refused.value.status == 503
        assert refused.value.retry_after_s is not None
        assert 2 <= refused.value.retry_after_s <= 10
        with pytest.raises(NoLink) as refused:
            async with world.dial("/elsewhere"):
                pass
        assert (refused.value.status, refused.value.retry_after_s) == (404, None)
