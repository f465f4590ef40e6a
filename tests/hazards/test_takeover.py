"""A client comes again while its older link is still there, even busy: of that nothing is taken any more (H06)."""

import json
from contextlib import suppress
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from wsproto.events import BytesMessage, CloseConnection

from protocol.frame import FrameType, decode_frame
from signal_gateway.config import Config
from signal_gateway.domain.events import DeviceLinked, ReportFiled
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.testing.world import World, open_world
from tests.hazards.upgrades import PHONE, head
from tests.websocket.client_frames import binary, text
from tests.websocket.talk import frame
from tests.websocket.test_links import RawLink

TAKEOVERS = 250
"""Of each kind of client and by each pump: 1,000 in all."""
ALARM = "error_count"
CLIENT = {"version": "1.0.0", "client_id": "unit-7", "auth_token": "demo-enrolment-key"}
CONNECT = binary(frame(FrameType.CONNECT, CLIENT))
REGISTER = binary(frame(FrameType.REGISTER, CLIENT))


class Rival:
    """One link of the client, in raw bytes: it goes on talking whatever it is told."""

    def __init__(self, world: World, number: int, is_phone: bool) -> None:
        self.link = RawLink(self._connect(world))
        self.number = number
        self.is_phone = is_phone
        self.told = 0
        self.after_goodbye: list[object] = []

    def _connect(self, world: World) -> trio.abc.Stream:
        """Over memory the client can be deaf: what is said to it waits, and its link cannot be closed at once."""
        self._hears = trio.Event()
        self._hears.set()
        if world._transport != "memory":
            return world.connect()
        ours, theirs = memory_stream_pair()
        deliver = theirs.send_stream.send_all_hook
        assert deliver is not None

        async def deliver_when_it_hears() -> None:
            await self._hears.wait()
            await deliver()

        theirs.send_stream.send_all_hook = deliver_when_it_hears
        world.links.start_soon(world.gateway.listener.serve_connection, theirs)
        return ours

    def go_deaf(self) -> None:
        self._hears = trio.Event()

    def hear_again(self) -> None:
        self._hears.set()

    async def come(self, behind: bytes = b"") -> None:
        if self.is_phone:
            await self.link.open(head(*PHONE, host=b"localhost"), behind)
            assert (await self.link.said())["type"] == "connection_established"
            return
        await self.link.open(head(host=b"localhost"), behind + CONNECT)
        event = await self.link.event()
        assert isinstance(event, BytesMessage)
        assert json.loads(decode_frame(bytes(event.data)).payload)["status"] == 200

    def report(self) -> bytes:
        """One report that says whose it is, and which of them: the same one again would be filed once."""
        self.told += 1
        message = {"type": "alarm", "data": {"alarm_type": ALARM, "severity": "warning", "link": self.number, "place": self.told}}
        return text(json.dumps(message)) if self.is_phone else binary(frame(FrameType.REPORT, message))

    async def say(self, data: bytes) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.link.stream.send_all(data)

    async def hear_goodbye(self) -> int | None:
        """Its close code; `after_goodbye` is what came behind the DISCONNECT of an agent."""
        is_told = False
        while (event := await self.link.event()) is not None:
            if isinstance(event, CloseConnection):
                return event.code
            if is_told:
                self.after_goodbye.append(event)
            if isinstance(event, BytesMessage):
                is_told = decode_frame(bytes(event.data)).type == FrameType.DISCONNECT
        return None


def slow_database(world: World, random: Random) -> None:
    """Every read waits a little, so that whoever asks first is not always answered first."""
    read = world.database.read

    async def read_later(work: Any, **options: Any) -> Any:
        await trio.sleep(random.choice((0, 0.002, 0.01, 0.02)))
        return await read(work, **options)

    world.database.read = read_later


@pytest.mark.slow
@pytest.mark.parametrize("is_phone", [False, True], ids=["agent", "phone"])
async def test_in_a_thousand_takeovers_nothing_is_taken_from_a_stale_link(autojump_clock: MockClock, world: World, is_phone: bool):
    """The older link reports before, during and after; as an agent it often waits for the database; over memory it is often deaf."""
    random = Random(6)
    slow_database(world, random)
    story: list[tuple[str, int]] = []
    world.bus.subscribe(DeviceLinked, lambda event: story.append(("linked", event.generation)))
    world.bus.subscribe(ReportFiled, lambda event: story.append(("report", event.report.data["link"])))
    codes: list[int | None] = []
    waited = 0

    if not is_phone:  # a record, so that each later link may CONNECT with the token
        first = RawLink(world.connect())
        await first.open(head(host=b"localhost"), REGISTER)
        await first.event()
        await first.stream.aclose()
        await trio.sleep(5)
        story.clear()
    offset = 0 if is_phone else 1
    older = Rival(world, 1 + offset, is_phone)
    await older.come()
    for number in range(2 + offset, 2 + offset + TAKEOVERS):
        newer = Rival(world, number, is_phone)
        stale, waits = older, not is_phone and random.random() < 0.7

        async def talk_on(stale: Rival = stale, waits: bool = waits) -> None:
            if waits:
                await stale.say(REGISTER + b"".join(stale.report() for _ in range(3)))
            for _ in range(3):
                await stale.say(stale.report())
                await trio.sleep(random.choice((0, 0.001, 0.004)))

        async def take_over(newer: Rival = newer, pause: float = random.choice((0, 0.001, 0.004))) -> None:
            await trio.sleep(pause)
            await newer.come()

        if random.random() < 0.5:
            stale.go_deaf()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk_on)
            nursery.start_soon(take_over)
            nursery.start_soon(_note_waiting, world, stale, noted := [False])
        waited += noted[0]
        await stale.say(stale.report() + stale.report())
        await newer.say(newer.report())
        await trio.sleep(0.3)
        stale.hear_again()
        codes.append(await stale.hear_goodbye())
        assert stale.after_goodbye == []
        await stale.link.stream.aclose()
        await trio.sleep(1.5)
        older = newer

    view = world.gateway.presence.view("raw-phone" if is_phone else "unit-7")
    assert view is not None
    assert (view.linked, view.generation, len(world.gateway.hub)) == (True, TAKEOVERS + 1 + offset, 1)
    await older.link.stream.aclose()
    assert codes == [4500] * TAKEOVERS
    newest, stale_reports = 0, 0
    for what, number in story:
        newest = max(newest, number) if what == "linked" else newest
        stale_reports += what == "report" and number < newest
    assert stale_reports == 0
    reports = [number for what, number in story if what == "report"]
    assert reports == sorted(reports)
    assert len(reports) >= 2 * TAKEOVERS
    assert is_phone or 50 <= waited <= TAKEOVERS - 50  # both orders: the older link waits for the database, or does not
    assert world.metrics.errors.values.get(("link",), 0) == 0


async def _note_waiting(world: World, stale: Rival, noted: list[bool]) -> None:
    """Whether a handler of the older link waits in the moment in which it is fenced."""
    client_id = "raw-phone" if stale.is_phone else "unit-7"
    link: Any = world.gateway.hub.link_of(client_id)
    while world.gateway.hub.link_of(client_id) is link:
        noted[0] = link.parser.is_paused
        await trio.sleep(0.0005)


async def test_of_two_links_that_prove_themselves_at_once_the_later_answered_wins_and_the_other_is_told(
    autojump_clock: MockClock, world: World
):
    """Twenty pairs, the database answering in either order: one link each, and it is the one of the newest generation."""
    slow_database(world, Random(7))
    for turn in range(20):
        pair = [RawLink(world.connect()) for _ in range(2)]
        told: dict[int, list[object]] = {0: [], 1: []}

        async def come(place: int, link: RawLink) -> None:
            await link.open(head(host=b"localhost"), REGISTER)
            while (event := await link.event()) is not None:
                told[place].append(event.code if isinstance(event, CloseConnection) else decode_frame(bytes(event.data)).type)  # noqa: B023
                if isinstance(event, CloseConnection):
                    return

        with trio.move_on_after(2):
            async with trio.open_nursery() as nursery:
                for place, link in enumerate(pair):
                    nursery.start_soon(come, place, link)
        winner = world.gateway.hub.link_of("unit-7")
        assert sorted(map(len, told.values())) == [1, 3], told
        assert next(each for each in told.values() if len(each) == 3)[1:] == [FrameType.DISCONNECT, 4500]
        view = world.gateway.presence.view("unit-7")
        assert view is not None
        assert winner is not None
        assert (view.linked, view.generation) == (True, 2 * turn + 2)
        for link in pair:
            await link.stream.aclose()
        await trio.sleep(5)


async def test_what_waited_for_room_while_its_link_was_taken_over_is_not_taken(
    autojump_clock: MockClock, config: Config, monkeypatch: pytest.MonkeyPatch
):
    """The writer is behind, so a report waits to be heard; then the phone comes again, and the older link is deaf even to its close."""
    is_behind = [False]
    monkeypatch.setattr(BatchWriter, "above_high_water", property(lambda _: is_behind[0]))
    async with open_world(config) as world:
        filed: list[int] = []
        world.bus.subscribe(ReportFiled, lambda event: filed.append(event.report.data["link"]))
        older, newer = Rival(world, 1, is_phone=True), Rival(world, 2, is_phone=True)
        await older.come()
        is_behind[0] = True
        await older.say(older.report())
        await trio.sleep(0.1)
        older.go_deaf()
        await newer.come()
        is_behind[0] = False
        await newer.say(newer.report())
        await trio.sleep(1)
        assert filed == [2]
        await older.link.stream.aclose()
        await newer.link.stream.aclose()
