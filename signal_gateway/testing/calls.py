"""Calls between simulated agents: a room made, entered, signalled in and left, over and over (S-20 to S-32)."""

from random import Random
from typing import Any

import trio

from protocol.frame import FrameType
from signal_gateway.testing.agent import WIRE_VERSION, SimulatedAgent
from signal_gateway.testing.client import LinkClosed
from signal_gateway.testing.numbers import FleetNumbers

CANDIDATES = 4
"""Each way, in each call."""
OFFER, ANSWER = "v=0\r\ns=simulated offer\r\n", "v=0\r\ns=simulated answer\r\n"
PATIENCE_S = 30.0
"""For what the other one says."""
BETWEEN_S = (0.5, 3.0)
"""From one call to the next."""


class CallFailed(Exception):
    """A call came to no good end."""


class SimulatedCall:
    """Two agents who call each other: `host` makes rooms and sends, `guest` comes in. Both must live beside it."""

    def __init__(self, host: SimulatedAgent, guest: SimulatedAgent, numbers: FleetNumbers, random: Random, lasts_s: float = 10.0) -> None:
        self.host = host
        self.guest = guest
        self._numbers = numbers
        self._random = random
        self._lasts_s = lasts_s

    async def talk_on(self) -> None:
        """One call after the other, until cancelled. One that fails is counted, and both leave what is left of it."""
        while True:
            await trio.sleep(self._random.uniform(*BETWEEN_S))
            if self.host.client is None or self.guest.client is None:
                continue
            room_id: str | None = None
            try:
                room_id = await self._open()
                await self._talk(room_id)
                self._numbers.calls["completed"] += 1
            except (CallFailed, LinkClosed, RuntimeError, trio.TooSlowError) as error:  # RuntimeError: the link was lost meanwhile
                self._numbers.calls["broken"] += 1
                self._numbers.failures[f"call: {error}" if isinstance(error, CallFailed) else "call: interrupted"] += 1
                await self._clear_up(room_id)

    async def _open(self) -> str:
        made = await self._ask(self.host, FrameType.WEBRTC_ROOM_CREATE, role="sender", offer_sdp=OFFER)
        self._numbers.calls["made"] += 1
        return str(made["room_id"])

    async def _talk(self, room_id: str) -> None:
        host, guest = self.host, self.guest
        of_host, of_guest = len(host.said_to_it), len(guest.said_to_it)
        await self._ask(guest, FrameType.WEBRTC_ROOM_JOIN, room_id=room_id, role="receiver")
        offer = await self._told(guest, FrameType.SIGNAL_OFFER, of_guest, room_id)
        if (offer["from"], offer["sdp"]) != (host.device_id, OFFER):
            raise CallFailed("another offer than was made")
        await guest.tell(FrameType.SIGNAL_ANSWER, {"room_id": room_id, "to": host.device_id, "sdp": ANSWER})
        await self._told(host, FrameType.SIGNAL_ANSWER, of_host, room_id)
        for number in range(CANDIDATES):
            candidate = {"candidate": f"candidate:{number} 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}
            for speaker, hearer in ((host, guest), (guest, host)):
                said = {"room_id": room_id, "to": hearer.device_id, "candidate": candidate}
                await speaker.tell(FrameType.SIGNAL_ICE_CANDIDATE, said)
        for hearer, since in ((host, of_host), (guest, of_guest)):
            await self._told(hearer, FrameType.SIGNAL_ICE_CANDIDATE, since, room_id, count=CANDIDATES)
        await trio.sleep(self._random.uniform(0, 2 * self._lasts_s))
        await self._ask(guest, FrameType.WEBRTC_ROOM_LEAVE, room_id=room_id, reason="done")
        await self._ask(host, FrameType.WEBRTC_ROOM_LEAVE, room_id=room_id, reason="done")

    async def _ask(self, agent: SimulatedAgent, frame_type: FrameType, **payload: Any) -> dict[str, Any]:
        _, answer = await agent.ask(frame_type, {"version": WIRE_VERSION, "client_id": agent.device_id, **payload})
        if answer["status"] != 200:
            raise CallFailed(f"{frame_type.name.lower()} {answer['status']}")
        return answer

    async def _told(self, agent: SimulatedAgent, frame_type: FrameType, since: int, room_id: str, count: int = 1) -> Any:
        """The first message of this type about the room since then, once there are `count` of them."""
        with trio.fail_after(PATIENCE_S):
            while True:
                found = [said for kind, said in agent.said_to_it[since:] if kind == frame_type and said.get("room_id") == room_id]
                if len(found) >= count:
                    return found[0]
                await agent.told.wait()

    async def _clear_up(self, room_id: str | None) -> None:
        """Whoever still sits in a room leaves it, as far as there is a link: else nobody may make another one."""
        for agent in (self.guest, self.host):
            if room_id is None or agent.client is None:
                continue
            payload = {"version": WIRE_VERSION, "client_id": agent.device_id, "room_id": room_id, "reason": "broken"}
            with trio.move_on_after(PATIENCE_S):
                try:
                    await agent.ask(FrameType.WEBRTC_ROOM_LEAVE, payload)
                except (LinkClosed, RuntimeError, trio.TooSlowError):
                    continue
