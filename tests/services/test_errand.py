"""Work that comes to its end whatever becomes of the one who waits for it."""

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.services.errand import Errand


class CutShort(Exception):
    pass


async def seven_after_5_s() -> int:
    await trio.sleep(5)
    return 7


async def fault_after_5_s() -> int:
    await trio.sleep(5)
    raise KeyError("after 5 s")


async def test_who_waits_gets_what_it_brings(autojump_clock: MockClock):
    unwanted: list[int] = []
    errand = Errand(seven_after_5_s, unwanted.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(errand.run)
        assert await errand.wait(CutShort()) == 7
    assert (trio.current_time(), unwanted) == (5, [])


async def test_who_waits_gets_what_goes_wrong(autojump_clock: MockClock):
    errand = Errand(fault_after_5_s, lambda _: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(errand.run)
        with pytest.raises(KeyError):
            await errand.wait(CutShort())


@pytest.mark.parametrize("waits_s", [1, 5])
async def test_what_nobody_waits_for_any_more_is_unwanted(autojump_clock: MockClock, waits_s: int):
    """Also when the result comes in the very moment in which the one who waits is cancelled."""
    unwanted: list[int] = []
    errand = Errand(seven_after_5_s, unwanted.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(errand.run)
        with trio.move_on_after(waits_s) as waiting:
            await errand.wait(CutShort())
        if waits_s == 1:
            assert waiting.cancelled_caught
    assert unwanted == ([7] if waiting.cancelled_caught else [])
    assert trio.current_time() == 5


async def test_a_fault_that_nobody_waits_for_is_raised_where_it_runs(autojump_clock: MockClock):
    errand = Errand(fault_after_5_s, lambda _: None)
    with trio.move_on_after(0):
        await errand.wait(CutShort())
    with pytest.raises(KeyError):
        await errand.run()


async def test_when_its_nursery_ends_first_who_waits_is_told(autojump_clock: MockClock):
    errand = Errand(seven_after_5_s, lambda _: None)

    async def run_for_1_s() -> None:
        with trio.move_on_after(1):
            await errand.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for_1_s)
        with pytest.raises(CutShort):
            await errand.wait(CutShort())
    assert trio.current_time() == 1
