"""Simulated clients who make rooms, enter, signal, leave and come back, at the worst moments, and an operator who interferes.

Nobody here keeps to an order, as browsers and people do not: a second link of the same client takes over in the middle of a step, requests
race each other, several come for the sender's place at once. What they say is known again by its mark (`SIGNAL_MARK`).
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import trio

from protocol.frame import FrameType
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.errors import GatewayError
from signal_gateway.services.room_desk import RoomDesk
from signal_gateway.testing.agent import WIRE_VERSION, SimulatedAgent
from signal_gateway.testing.client import LinkClosed
from signal_gateway.testing.device import SimulatedDevice

SIGNAL_MARK = re.compile(r"s:[\w.-]+/\d+;")
"""The text by which a simulated signal is known again: who said it by which of their links, and how many before."""
BOARD_MAX = 4
"""Rooms that everybody knows of; older ones are forgotten."""
AWAY_S = (0.0, 0.0, 4.0, 12.0)
TAKES_OVER_WITHIN_S = 1.5
"""Seconds that a second link takes to be there, roughly; meanwhile the first one goes on."""
HANGS_UP, GOES = "hang up", "go"
DESCRIPTIONS = (FrameType.SIGNAL_OFFER, FrameType.SIGNAL_ANSWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPlay:
    """How busy a party is. Mean times in seconds."""

    step_every_s: float = 3.0
    """Between two steps of a client."""
    rush_every_s: float = 25.0
    """Between two moments in which several come for the sender's place of one room."""
    operator_every_s: float = 25.0


class RoomParty:
    """Lets agents play. Several of them may be links of one client: they know of the same room, as two pages of one browser may."""

    def __init__(
        self,
        agents: Sequence[SimulatedAgent],
        served: Callable[[], RoomDesk | None],
        note: Callable[[str, Any], None],
        random: Random,
        play: RoomPlay,
    ) -> None:
        self.play = play
        self.board: list[str] = []
        self.room_of: dict[str, str] = {}
        """Where each client believes that it sits."""
        self.is_over = False
        self._served = served
        self._note = note
        self._random = random
        self._operator = Operator("boss", Role.ADMIN)
        self.clients = list(dict.fromkeys(agent.device_id for agent in agents))
        self.players = [_Player(self, agent, number, Random(random.random())) for number, agent in enumerate(agents)]
        self._called: dict[int, trio.Event] = {}

    async def run(self) -> None:
        """All of it, until cancelled. When it `is_over` everybody leaves and begins nothing any more."""
        async with trio.open_nursery() as nursery:
            for player in self.players:
                nursery.start_soon(player.run)
            nursery.start_soon(self._rush)
            nursery.start_soon(self._operate)

    async def rest(self, device: SimulatedDevice, seconds: float) -> None:
        """Wait so long, or until this device is called to take the place of another link of its client."""
        called = self._called[id(device)] = trio.Event()
        with trio.move_on_after(seconds):
            await called.wait()
        del self._called[id(device)]

    def call_double(self, player: "_Player") -> None:
        """Let another link of the same client come, if one is resting."""
        for other in self.players:
            called = self._called.get(id(other.agent))
            if other.agent.device_id == player.agent.device_id and called is not None:
                called.set()

    def post(self, room_id: str) -> None:
        """Everybody may know of this room."""
        self.board = [*self.board[1 - BOARD_MAX :], room_id]

    def forget(self, room_id: str | None) -> None:
        """There is no such room any more."""
        if room_id in self.board:
            self.board.remove(room_id)

    async def _rush(self) -> None:
        """Several come for one place at once."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._random.expovariate(1 / self.play.rush_every_s))
                linked = [player for player in self.players if player.agent.client is not None]
                if self.is_over or not self.board or len(linked) < 2:
                    continue
                room_id = self._random.choice(self.board)
                for player in self._random.sample(linked, min(3, len(linked))):
                    nursery.start_soon(player.attempt, player.join, room_id, "sender")

    async def _operate(self) -> None:
        while True:
            await trio.sleep(self._random.expovariate(1 / self.play.operator_every_s))
            desk = self._served()
            if desk is None or self.is_over:
                continue
            try:
                self._interfere(desk)
            except GatewayError as refusal:
                self._note("refused", refusal.reason)

    def _interfere(self, desk: RoomDesk) -> None:
        rooms, random = desk.opened(self._operator), self._random
        what = random.choice(("make", "kick", "kick", "ban", "end"))
        if what == "make" or not rooms:
            self.post(desk.make(self._operator, None).room.room_id)
            return
        room = random.choice(rooms)
        if what == "end":
            self._note("end", (room.room_id,))
            desk.end(self._operator, room.room_id)
            return
        here = list(room.seats)
        client_id = random.choice(here if here and random.random() < 0.7 else self.clients)
        self._note(what, (room.room_id, client_id))
        desk.remove(self._operator, room.room_id, client_id, ban=what == "ban")


class _Player:
    """One link of a client."""

    def __init__(self, party: RoomParty, agent: SimulatedAgent, number: int, random: Random) -> None:
        self.agent = agent
        self._party = party
        self._number = number
        self._random = random
        self._said = 0
        self._heard = 0

    async def run(self) -> None:
        """Take one step after the other."""
        async with trio.open_nursery() as hurried:
            while True:
                await trio.sleep(self._random.expovariate(1 / self._party.play.step_every_s))
                if self.agent.client is None:
                    continue
                if self._party.is_over:
                    await self.attempt(self.leave, self._room())
                    return
                step = self._choose()
                if step == HANGS_UP:
                    self.agent.hang_up(self._random.choice(AWAY_S))
                elif step == GOES:
                    await self.attempt(self._go)
                elif self._random.random() < 0.15:
                    self._hurry(hurried)
                else:
                    await self.attempt(step)

    async def attempt(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Do it, as far as the link lets it."""
        try:
            await step(*arguments)
        except (LinkClosed, RuntimeError, trio.TooSlowError):  # RuntimeError: the link was lost meanwhile
            return

    def _hurry(self, hurried: trio.Nursery) -> None:
        """Another link of the client comes, and several steps are under way when it does."""
        self._party.call_double(self)
        for _ in range(4):
            hurried.start_soon(self.attempt, self._soon, self._choose())

    async def _soon(self, step: Any) -> None:
        await trio.sleep(self._random.uniform(0, TAKES_OVER_WITHIN_S))
        if self.agent.client is not None and not isinstance(step, str):
            await step()

    def _choose(self) -> Any:
        self._read_news()
        if self._room() is None:
            steps: Mapping[Any, int] = {self.create: 30, self.join: 50, self._come_to_send: 12, self._signal: 3, self.leave: 2, HANGS_UP: 3}
        else:
            steps = {
                self._signal: 40,
                self._trickle: 20,
                self.leave: 8,
                self._come_and_go: 5,
                self._come_again: 6,
                self.create: 3,
                self.join: 3,
                HANGS_UP: 8,
                GOES: 1,
            }
        return self._random.choices(list(steps), list(steps.values()))[0]

    def _read_news(self) -> None:
        """What the server has said: that a room is over, or that the client was taken out."""
        party, client_id = self._party, self.agent.device_id
        news, self._heard = self.agent.said_to_it[self._heard :], len(self.agent.said_to_it)
        for kind, said in news:
            if kind != FrameType.ROOM_EVENT:
                continue
            is_over = said["event"] == "room_terminated"
            if is_over:
                party.forget(said["room_id"])
            is_out = is_over or (said["event"] == "member_left" and said["client_id"] == client_id)
            if is_out and party.room_of.get(client_id) == said["room_id"]:
                del party.room_of[client_id]

    def _room(self) -> str | None:
        return self._party.room_of.get(self.agent.device_id)

    async def create(self) -> None:
        """Make a room, with an offer to all, or without."""
        sdp = f"v=0 {self._mark()}" if self._random.random() < 0.7 else None
        await self._ask(FrameType.WEBRTC_ROOM_CREATE, None, role="sender", offer_sdp=sdp)

    async def join(self, room_id: str | None = None, role: str | None = None) -> None:
        """Come into a room; by default any that is known."""
        wanted = room_id or self._any_room()
        if wanted is not None:
            sdp = f"v=0 {self._mark()}" if self._random.random() < 0.2 else None
            await self._ask(FrameType.WEBRTC_ROOM_JOIN, wanted, role=role or "receiver", offer_sdp=sdp)

    async def leave(self, room_id: str | None = None) -> None:
        """Leave, the room that one sits in, or any."""
        wanted = room_id or self._room() or self._any_room()
        if wanted is not None:
            await self._ask(FrameType.WEBRTC_ROOM_LEAVE, wanted, reason=self._random.choice((None, "done")))

    async def _come_to_send(self) -> None:
        await self.join(None, "sender")

    async def _come_again(self) -> None:
        """As a page does that was loaded again."""
        for role in self._random.sample(("sender", "receiver"), 2):
            await self.join(self._room(), role)

    async def _come_and_go(self) -> None:
        """Without waiting for an answer: LEAVE races JOIN."""
        room_id = self._room()
        async with trio.open_nursery() as nursery:
            for step, role in ((self.leave, None), (self.join, "receiver"), (self.leave, None), (self.join, "sender")):
                arguments = (room_id,) if role is None else (room_id, role)
                nursery.start_soon(self.attempt, step, *arguments)

    async def _go(self) -> None:
        await self.agent.tell(FrameType.DISCONNECT, {"version": WIRE_VERSION})

    async def _signal(self) -> None:
        """One signal, to one or to all."""
        kind = self._random.choice((*DESCRIPTIONS, FrameType.SIGNAL_ICE_CANDIDATE))
        await self._say(kind, self._room() or self._any_room(), self._somebody())

    async def _trickle(self) -> None:
        """A description and its candidates, of which some overtake it, and sometimes nothing but candidates."""
        room_id, to = self._room(), self._somebody()
        kinds = [FrameType.SIGNAL_ICE_CANDIDATE] * self._random.randint(1, 4)
        if self._random.random() < 0.7:
            kinds.insert(self._random.randint(0, len(kinds)), self._random.choice(DESCRIPTIONS))
        for kind in kinds:
            await self._say(kind, room_id, to)
            if self._random.random() < 0.2:
                await trio.sleep(self._random.uniform(0, 1))

    def _somebody(self) -> str | None:
        """One of those who believe that they sit here, mostly; None: all."""
        room_id, random = self._room(), self._random
        here = [client_id for client_id, its in self._party.room_of.items() if its == room_id and client_id != self.agent.device_id]
        if random.random() < (0.3 if here else 0.8):
            return None
        return random.choice(here if here and random.random() < 0.9 else self._party.clients)

    def _any_room(self) -> str | None:
        return self._random.choice(self._party.board) if self._party.board else None

    def _mark(self) -> str:
        self._said += 1
        return f"s:{self.agent.device_id}.{self._number}/{self._said};"

    async def _say(self, kind: FrameType, room_id: str | None, to: str | None) -> None:
        if room_id is None:
            return
        said: dict[str, Any] = {"version": WIRE_VERSION, "room_id": room_id}
        if to is not None:
            said["to"] = to
        if kind in DESCRIPTIONS:
            said["sdp"] = f"v=0 {self._mark()}"
        else:
            said["candidate"] = {"candidate": f"candidate:{self._mark()}", "sdpMid": "0", "sdpMLineIndex": 0}
        await self.agent.tell(kind, said)

    async def _ask(self, frame_type: FrameType, room_id: str | None, **more: Any) -> None:
        party, client_id = self._party, self.agent.device_id
        asked = {"version": WIRE_VERSION, "client_id": client_id, **more}
        if room_id is not None:
            asked["room_id"] = room_id
        _, answer = await self.agent.ask(frame_type, asked)
        status = answer["status"]
        if status == 404:
            party.forget(room_id)
        if frame_type == FrameType.WEBRTC_ROOM_LEAVE:
            if status in (200, 404) and party.room_of.get(client_id) == room_id:
                del party.room_of[client_id]
        elif status == 200:
            party.room_of[client_id] = answer["room_id"]
            if frame_type == FrameType.WEBRTC_ROOM_CREATE:
                party.post(answer["room_id"])
