"""Each kind of hostile client meets what the gateway has against it (H07 to H14), and a crowd of them harms nobody but us."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from random import Random

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.testing import crowd
from signal_gateway.testing.crowd import CrowdPlan, CrowdRefused
from signal_gateway.testing.hostile import KINDS, Ear, HostileClient, client_frame
from signal_gateway.testing.world import World, open_world
from tests.websocket.client_frames import client_frame as frame_of_the_tests

KEY = "demo-enrolment-key"
ENDS = {
    "slow_handshake": {"refused 408"},
    "header_bomb": {"refused 431"},
    "silent_upgrade": {"closed 4501"},
    "wrong_token": {"closed 4501", "refused 401"},
    "garbage": {"closed 4503"},
    "oversize": {"closed 1009"},
    "fragment_flood": {"closed 1009"},
    "empty_fragment_flood": {"closed 1009"},
    "ping_flood": {"still open after 60 s", "closed 4001"},  # 4001: at every look for 30 s a ping was half read
    "half_message": {"closed 4001"},
    "slow_reader": {"cut"},
    "payload_traps": {"closed 4503"},
    "reset_churn": {"cut"},
}


@pytest.fixture
async def world() -> AsyncGenerator[World, None]:
    async with open_world(Config(auth=AuthSettings(enrolment_keys=(f"demo:{KEY}",))), transport="sockets") as world:
        yield world


def dial(world: World) -> Callable[[], Awaitable[trio.abc.Stream]]:
    async def connect() -> trio.abc.Stream:
        return world.connect()

    return connect


@pytest.mark.parametrize("name", KINDS)
async def test_every_kind_ends_as_its_hazard_says(autojump_clock: MockClock, world: World, name: str):
    seen: set[str] = set()
    for seed in range(6):
        client = HostileClient(KINDS[name], seed, dial(world), Counter(), KEY, Random(seed))
        with trio.fail_after(70):
            seen.add(await client.attack())
    assert seen <= ENDS[name]
    assert len(seen) == len(ENDS[name]) or name == "ping_flood"
    assert world.metrics.errors.values == {}


async def test_a_ping_flood_is_read_at_the_rate_of_frames_and_no_faster(autojump_clock: MockClock, world: World):
    """200 frames a second after a burst of 400, and what came in the reads that used it up (H09)."""
    client = HostileClient(KINDS["ping_flood"], 0, dial(world), Counter(), KEY)
    with trio.move_on_after(30):
        await client.attack()
    heard = world.metrics.messages.value("in", "ping")
    assert 30 * 200 <= heard <= 30 * 200 + 400 + 2 * 8192 / 6


async def test_it_comes_again_after_a_pause_and_counts_how_it_ended(autojump_clock: MockClock, world: World):
    ends: Counter[str] = Counter()
    client = HostileClient(KINDS["silent_upgrade"], 0, dial(world), ends, KEY)
    with trio.move_on_after(100):
        await client.live()
    # Each time about 6 s until the server's look once a second, 2 s that its close frame waits for an answer, 1 to 5 s of pause.
    assert set(ends) == {"closed 4501"}
    assert 7 <= ends["closed 4501"] <= 12


async def test_without_a_server_it_counts_that_there_was_none(autojump_clock: MockClock):
    async def refuse() -> trio.abc.Stream:
        raise ConnectionRefusedError

    client = HostileClient(KINDS["garbage"], 0, refuse, Counter(), KEY)
    assert await client.attack() == "no connection"


def test_an_ear_tells_how_a_connection_ended_however_its_bytes_are_cut():
    upgraded = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
    long = bytes((0x82, 126)) + (300).to_bytes(2, "big") + bytes(300)
    longer = bytes((0x82, 127)) + (70_000).to_bytes(8, "big") + bytes(70_000)
    for said, words in (
        (b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\n\r\n", "refused 429"),
        (upgraded, "cut"),
        (upgraded + b"\x89\x00" + long + b"\x88\x02\x0f\xa1", "closed 4001"),
        (upgraded + longer + b"\x88\x04\x11\x97no", "closed 4503"),
        (b"", "cut"),
    ):
        for size in (1, 7, len(said) + 1):
            if size == 1 and len(said) > 10_000:
                continue
            ear = Ear()
            for start in range(0, len(said), size):
                ear.feed(said[start : start + size])
            assert ear.words() == words


def test_its_frames_are_masked_and_may_lie_about_their_length():
    for size in (0, 125, 126, 65_535, 65_536):
        assert client_frame(0x82, bytes(size)) == frame_of_the_tests(2, bytes(size), mask=bytes(4))
    assert client_frame(0x82, b"", 2**40) == b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (CrowdPlan("ws://192.0.2.1:8080/ws", 1, 1.0), "hostile clients attack servers on 127.0.0.0/8 alone, which '192.0.2.1' is not"),
        (CrowdPlan("ws://example.org/ws", 1, 1.0), "hostile clients attack servers on 127.0.0.0/8 alone, which 'example.org' is not"),
        (CrowdPlan("ws://[::1]:8080/ws", 1, 1.0), "hostile clients attack servers on 127.0.0.0/8 alone, which '::1' is not"),
        (CrowdPlan("ws://127.0.0.1:x/ws", 1, 1.0), "hostile clients attack servers on 127.0.0.0/8 alone, which '127.0.0.1' is not"),
        (CrowdPlan("nonsense", 1, 1.0), "hostile clients attack servers on 127.0.0.0/8 alone, which 'nonsense' is not"),
        (CrowdPlan("wss://127.0.0.1/ws", 1, 1.0), "hostile clients speak plain ws:// only"),
        (CrowdPlan("ws://127.0.0.1/ws", 1, 0.0), "hostile clients need an end: say for how many seconds, 3600 at the most"),
        (CrowdPlan("ws://127.0.0.1/ws", 1, 7200.0), "hostile clients need an end: say for how many seconds, 3600 at the most"),
        (CrowdPlan("ws://127.0.0.1/ws", 501, 1.0), "there may be 1 to 500 hostile clients of each kind"),
    ],
)
def test_a_crowd_attacks_this_machine_alone_and_ends(plan: CrowdPlan, said: str):
    with pytest.raises(CrowdRefused) as refused:
        crowd.check(plan)
    assert str(refused.value) == said


def test_a_crowd_knows_this_machine_by_name_and_number():
    assert crowd.check(CrowdPlan("ws://localhost:9/ws", 1, 1.0)) == ("127.0.0.1", 9)
    assert crowd.check(CrowdPlan("ws://127.1.2.3/ws", 1, 1.0)) == ("127.1.2.3", 80)


def test_a_crowd_s_addresses_are_249_and_none_is_the_fleet_s():
    addresses = [crowd.source_address(place) for place in range(2 * 249)]
    assert (addresses[0], addresses[248], addresses[249]) == ("127.0.0.2", "127.0.0.250", "127.0.0.2")
    assert "127.0.0.1" not in addresses
