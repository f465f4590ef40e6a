"""The bad network: a stream like any other when nothing befalls it, and each fault as it is described."""

from dataclasses import replace
from math import inf
from random import Random

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream

from signal_gateway.testing.faults import FaultPlan, FaultyStream, Network


def pair(seed: int = 0, **plan) -> tuple[FaultyStream, FaultyStream]:
    return Network(FaultPlan(**plan), Random(seed)).connect()


async def read_all(stream: FaultyStream) -> tuple[bytes, list[float]]:
    """All that comes until the end, and when each piece came."""
    data, at = b"", list[float]()
    while piece := await stream.receive_some():
        data += piece
        at.append(trio.current_time())
    return data, at


async def test_without_faults_it_is_a_stream_as_trio_wants_them():
    async def make() -> tuple[FaultyStream, FaultyStream]:
        return pair()

    async def make_clogged() -> tuple[FaultyStream, FaultyStream]:
        one, other = pair(buffer_bytes=4)
        await one.send_all(b"full")
        await other.send_all(b"full")
        return one, other

    await check_half_closeable_stream(make, make_clogged)


async def test_with_delays_and_pieces_it_still_is_one(autojump_clock: MockClock):
    async def make() -> tuple[FaultyStream, FaultyStream]:
        return pair(delay_s=(0.1, 2.0), split_chance=1.0, piece_bytes=(1, 20_000))

    await check_half_closeable_stream(make, None)


async def test_a_writer_waits_until_there_is_room(autojump_clock: MockClock):
    one, other = pair(buffer_bytes=10)
    with trio.move_on_after(1) as waited:
        await one.send_all(b"twelve bytes")
    assert waited.cancelled_caught
    assert await other.receive_some() == b"twelve byt"
    await one.send_all(b"es")
    assert await other.receive_some() == b"es"


async def test_bytes_arrive_late_and_never_overtake_each_other(autojump_clock: MockClock):
    one, other = pair(delay_s=(0.5, 3.0))
    begun_at = trio.current_time()
    for number in range(20):
        await one.send_all(bytes([number]))
    assert trio.current_time() == begun_at
    await one.send_eof()
    data, at = await read_all(other)
    assert data == bytes(range(20))
    assert at == sorted(at)
    assert 0.5 <= at[0] - begun_at <= at[-1] - begun_at <= 3.0


async def test_every_byte_may_come_alone():
    one, other = pair(split_chance=1.0, piece_bytes=(1, 1))
    await one.send_all(b"abc")
    assert [await other.receive_some(), await other.receive_some(10), await other.receive_some()] == [b"a", b"b", b"c"]


async def test_a_stall_holds_up_what_is_behind_it(autojump_clock: MockClock):
    one, other = pair(stall_chance=1.0, stall_s=(5.0, 5.0))
    begun_at = trio.current_time()
    await one.send_all(b"abcdefghij")
    await one.send_eof()
    data, at = await read_all(other)
    assert data == b"abcdefghij"
    assert at[-1] == begun_at + 5.0


async def test_a_stall_for_ever_leaves_the_reader_waiting_and_in_the_end_the_writer_too(autojump_clock: MockClock):
    one, other = pair(stall_chance=1.0, stall_s=(inf, inf), buffer_bytes=100)
    with trio.move_on_after(3600) as waited:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, other)
            while True:
                await one.send_all(bytes(60))
    assert waited.cancelled_caught


async def test_a_cut_ends_both_directions_after_what_had_arrived():
    network = Network()
    one, other = network.connect()
    await one.send_all(b"before")
    network.strike(one.number, "cut")
    assert await other.receive_some() == b"before"
    assert await other.receive_some() == b""
    assert await one.receive_some() == b""
    for stream in (one, other):
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"after")


async def test_a_reset_breaks_both_ends_at_once_and_loses_what_was_under_way():
    network = Network()
    one, other = network.connect()
    await one.send_all(b"lost")
    network.strike(one.number, "reset")
    for stream in (one, other):
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


async def test_who_waits_learns_of_a_reset(autojump_clock: MockClock):
    network = Network(FaultPlan(buffer_bytes=1))
    one, other = network.connect()
    await one.send_all(b"x")
    broken: list[str] = []

    async def try_to(name: str, work) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await work()
        broken.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(try_to, "write", lambda: one.send_all(b"y"))
        nursery.start_soon(try_to, "read", one.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        network.strike_all("reset")
    assert sorted(broken) == ["read", "write"]
    await other.aclose()


async def test_of_a_peer_that_vanished_nobody_hears_and_nobody_is_told(autojump_clock: MockClock):
    network = Network()
    one, other = network.connect()
    await one.send_all(b"under way")
    network.strike(one.number, "vanish")
    for _ in range(100):
        await one.send_all(bytes(65_536))
    await one.aclose()
    assert await other.receive_some() == b"under way"
    with trio.move_on_after(86_400) as waited:
        await other.receive_some()
    assert waited.cancelled_caught


async def test_a_system_notices_in_the_end_that_its_peer_has_vanished(autojump_clock: MockClock):
    network = Network(FaultPlan(notice_s=(60.0, 60.0)))
    one, other = network.connect()
    begun_at = trio.current_time()
    network.strike(one.number, "vanish")
    with pytest.raises(trio.BrokenResourceError):
        await other.receive_some()
    assert trio.current_time() == begun_at + 60
    with pytest.raises(trio.BrokenResourceError):
        await one.send_all(b"x")


async def test_a_system_notices_in_the_end_that_a_stall_is_for_ever(autojump_clock: MockClock):
    one, other = pair(stall_chance=1.0, stall_s=(inf, inf), notice_s=(60.0, 60.0))
    begun_at = trio.current_time()
    await one.send_all(b"x")
    for stream in (other, one):
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)
        assert trio.current_time() == begun_at + 60


async def test_a_write_that_is_struck_is_torn_somewhere_in_its_middle():
    arrived: set[int] = set()
    for seed in range(40):
        one, other = pair(seed, cut_chance=1.0)
        await one.send_all(b"0123456789")
        data, _ = await read_all(other)
        assert b"0123456789".startswith(data)
        arrived.add(len(data))
    assert len(arrived) > 6


@pytest.mark.parametrize("fault", ["stall", "cut", "reset", "vanish"])
async def test_chance_strikes_as_often_as_it_was_told_to(autojump_clock: MockClock, fault):
    told: list[str] = []
    plan = replace(FaultPlan(), **{f"{fault}_chance": 0.1})
    network = Network(plan, Random(1), lambda _, what: told.append(what))
    for _ in range(1000):
        one, _ = network.connect()
        await one.send_all(b"x")
    assert set(told) == {fault}
    assert 70 <= len(told) <= 130


async def test_the_same_seed_does_the_same_again(autojump_clock: MockClock):
    async def talk(seed: int) -> tuple[bytes, list[float]]:
        one, other = pair(seed, delay_s=(0, 1), split_chance=0.5, cut_chance=0.05, stall_chance=0.1)
        begun_at = trio.current_time()
        try:
            for number in range(100):
                await one.send_all(bytes([number]) * 20)
        except trio.BrokenResourceError:
            pass
        data, at = await read_all(other)
        return data, [round(each - begun_at, 6) for each in at]

    assert await talk(1) == await talk(1) != await talk(2)


async def test_a_plan_may_be_changed_while_connections_live(autojump_clock: MockClock):
    network = Network(FaultPlan(reset_chance=1.0))
    network.plan = FaultPlan()
    one, other = network.connect()
    await one.send_all(b"calm")
    assert await other.receive_some() == b"calm"
    network.plan = FaultPlan(reset_chance=1.0)
    await one.send_all(b"storm")
    with pytest.raises(trio.BrokenResourceError):
        await other.receive_some()


async def test_a_network_forgets_connections_whose_ends_are_both_closed():
    network = Network()
    one, other = network.connect()
    await one.aclose()
    network.strike(1, "cut")
    await other.aclose()
    with pytest.raises(KeyError):
        network.strike(1, "cut")
