"""What a simulated phone does with commands: its SIMs, its radio, its ringer. It knows no link: results are handed to whoever has one.

What it did stays in lists: they are the truth about effects, whatever the gateway was told.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import trio

from signal_gateway.domain.sms_text import segments as size_of
from signal_gateway.testing import ussd_menus
from signal_gateway.testing.behaviour import FLAWLESS, Behaviour
from signal_gateway.testing.sim_card import NETWORK_ERROR, SIM_ABSENT, SimulatedSim

Report = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Reports one result: its type, and its data."""
Command = Mapping[str, Any]
FAILURE_WORDS = {-1: "failed", 1: "Network error", 2: "Invalid code", 3: "Service not available", 4: "SIM card error", 5: "Timeout"}
RINGER = -1
"""The place of commands that need no SIM."""


@dataclass(frozen=True, slots=True)
class SentSms:
    """One message that went out over the air, be it SMS or RCS."""

    message_id: str | None
    sim_slot: int
    phone_number: str
    text: str
    at: int
    """Milliseconds since 1970 of the phone's clock."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """One USSD code, or one reply to a menu, that the network answered."""

    message_id: str | None
    sim_slot: int
    code: str
    at: int


@dataclass(frozen=True, slots=True)
class Rang:
    """The phone rang, or fell silent."""

    kind: str
    """find_device, alarm_start or alarm_stop."""
    at: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What a command did, for a history: each of these happened once in the world."""

    kind: str
    device_id: str
    message_id: str | None
    sim_slot: int | None
    at: int
    """Milliseconds since 1970 of the phone's clock."""
    what: str = ""
    """The text, the code or the words."""
    segments: int = 0
    """Of an SMS."""


def ignore(_effect: Effect) -> None:
    """For who wants to know of no effects."""


class Handset:
    """Obeys one command at a time per SIM, in the order in which they came. `obey` never waits."""

    _nursery: trio.Nursery

    def __init__(
        self,
        device_id: str,
        sims: Sequence[SimulatedSim],
        random: Random,
        wall_ms: Callable[[], int],
        report: Report,
        restart: Callable[[float], None],
        tell: Callable[[Effect], None] = ignore,
        behaviour: Behaviour = FLAWLESS,
    ) -> None:
        self._device_id = device_id
        self.sims = {sim.slot: sim for sim in sims}
        self.behaviour = behaviour
        self.settings: Mapping[str, Any] = {}
        """As the server told them."""
        self.sent: list[SentSms] = []
        self.sent_rcs: list[SentSms] = []
        self.dialled: list[Dialled] = []
        self.rang: list[Rang] = []
        self.refused: list[tuple[str | None, int]] = []
        """Messages that the phone's own rules kept back, with the code that it reported."""
        self.is_ringing = False
        self._random = random
        self._wall_ms = wall_ms
        self._report = report
        self._restart = restart
        self._tell = tell
        self._waiting: dict[int, deque[tuple[str, Command]]] = {}
        """By place, while something is done there: what comes after it."""
        self._results: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._sessions: dict[int, ussd_menus.Session] = {}
        self._session_count = 0
        self._does: Mapping[str, Callable[[Command], Awaitable[None]]] = {
            "send_sms": self._send_sms,
            "send_rcs": self._send_rcs,
            "send_ussd": self._dial,
            "ussd_reply": self._reply,
            "find_device": self._ring,
            "alarm_start": self._ring,
            "alarm_stop": self._ring,
        }

    def obey(self, kind: str, command: Command) -> None:
        """Do this as soon as its SIM is free. What no phone knows is ignored."""
        if kind not in self._does:
            return
        place = int(command.get("data", {}).get("sim_slot", RINGER))
        line = self._waiting.get(place)
        if line is not None:
            line.append((kind, command))
            return
        self._waiting[place] = deque([(kind, command)])
        self._nursery.start_soon(self._work, place)

    def work_in(self, nursery: trio.Nursery) -> None:
        """The app begins: nothing is under way, and from now on what it does is done here."""
        self._nursery = nursery
        self._waiting.clear()
        self._sessions.clear()

    async def _work(self, place: int) -> None:
        line = self._waiting[place]
        while line:
            kind, command = line.popleft()
            known = self._results.get(command.get("message_id", "")) if self.behaviour.deduplicates else None
            if known is None:
                await self._does[kind](command)
            else:
                await self._report(*known)
        if self._waiting.get(place) is line:
            del self._waiting[place]

    # SMS and RCS

    async def _send_sms(self, command: Command) -> None:
        data, message_id = command["data"], command.get("message_id")
        parts = size_of(data["message"]).segments
        code = await self._failure(data["sim_slot"], parts)
        said = {**_named(data, "sim_slot", "phone_number", "message"), **self._name(message_id)}
        if code is not None:
            self.refused.append((message_id, code))
            await self._answer(message_id, "sms_log", {**said, "status": "failed", "error_code": code})
            if code == SIM_ABSENT:
                await self._report("alarm", {"alarm_type": "sim_blocked", "message": "SIM card error", "severity": "error"})
            return
        now = self._wall_ms()
        self.sims[data["sim_slot"]].send(self.settings, parts, now)
        self.sent.append(SentSms(message_id, data["sim_slot"], data["phone_number"], data["message"], now))
        self._tell(Effect("send_sms", self._device_id, message_id, data["sim_slot"], now, data["message"], parts))
        self._nursery.start_soon(self._deliver, message_id, data, parts)
        await self._answer(message_id, "sms_log", {**said, "status": "sent", "segments": parts}, is_effect=True)

    async def _send_rcs(self, command: Command) -> None:
        data, message_id = command["data"], command.get("message_id")
        said = {**_named(data, "sim_slot", "phone_number", "message", "message_type"), **self._name(message_id)}
        code = await self._failure(data["sim_slot"], 0)
        if code is not None:
            await self._answer(message_id, "rcs_log", {**said, "status": "failed", "error_code": code})
            return
        now = self._wall_ms()
        self.sent_rcs.append(SentSms(message_id, data["sim_slot"], data["phone_number"], data["message"], now))
        self._tell(Effect("send_rcs", self._device_id, message_id, data["sim_slot"], now, data["message"]))
        self._nursery.start_soon(self._deliver_rcs, said)
        await self._answer(message_id, "rcs_log", {**said, "status": "sent"}, is_effect=True)

    async def _failure(self, slot: int, parts: int) -> int | None:
        """Wait for the phone's guard interval and the radio. Returns the code of what went wrong, if anything did."""
        sim, behaviour, random = self.sims.get(slot), self.behaviour, self._random
        if sim is None:
            return SIM_ABSENT
        if parts and (guard_s := sim.guard_left_s(self.settings, self._wall_ms())) > 0:
            await trio.sleep(guard_s)
        await trio.sleep(behaviour.draw_s(random, behaviour.send_s))
        sim.price_per_segment = behaviour.price_per_segment
        if (code := sim.refusal(self.settings, parts, self._wall_ms())) is not None:
            return code
        if behaviour.happens(random, behaviour.network_error_chance):
            return NETWORK_ERROR
        return SIM_ABSENT if behaviour.happens(random, behaviour.sim_error_chance) else None

    async def _deliver(self, message_id: str | None, data: Mapping[str, Any], parts: int) -> None:
        """What the network tells of an SMS, a part at a time: late, twice, or never."""
        behaviour, random = self.behaviour, self._random
        status = "failed" if behaviour.happens(random, behaviour.delivery_failed_chance) else "delivered"
        said = {**_named(data, "sim_slot", "phone_number"), "message_id": message_id}
        for part in range(1, parts + 1) if behaviour.reports_parts else (1,):
            if not behaviour.happens(random, behaviour.delivery_chance):
                continue
            await trio.sleep(behaviour.draw_s(random, behaviour.delivery_s))
            of_part = {"part": part, "parts": parts} if behaviour.reports_parts and behaviour.numbers_parts and parts > 1 else {}
            if behaviour.happens(random, behaviour.delivery_pending_chance):
                await self._report("sms_delivery_report", {**said, **of_part, "status": "pending"})
            told = {**said, **of_part, "status": status, "timestamp": self._wall_ms()}
            for _ in range(1 + behaviour.happens(random, behaviour.delivery_twice_chance)):
                await self._report("sms_delivery_report", told)

    async def _deliver_rcs(self, said: Mapping[str, Any]) -> None:
        """What became of an RCS message after it was sent: delivered, read, not delivered, or never told."""
        behaviour, random = self.behaviour, self._random
        if not behaviour.happens(random, behaviour.delivery_chance):
            return
        await trio.sleep(behaviour.draw_s(random, behaviour.delivery_s))
        is_lost = behaviour.happens(random, behaviour.delivery_failed_chance)
        told = {"status": "failed", "delivery_report": True} if is_lost else {"status": "delivered"}
        await self._report("rcs_log", {**said, **told, "timestamp": self._wall_ms()})
        if not is_lost and behaviour.happens(random, behaviour.read_chance):
            await trio.sleep(behaviour.draw_s(random, behaviour.delivery_s))
            await self._report("rcs_log", {**said, "status": "read", "timestamp": self._wall_ms()})

    # USSD

    async def _dial(self, command: Command) -> None:
        data, message_id = command["data"], command.get("message_id")
        slot, code = int(data["sim_slot"]), str(data["ussd_code"])
        await trio.sleep(float(data.get("delay", 0)))  # T-49
        failure = await self._ussd_failure(slot)
        menu = ussd_menus.CODES.get(code)
        self._session_count += 1
        session_id = data.get("session_id") or f"ussd-{self._session_count}"
        if failure is None and menu is None:
            failure = ussd_menus.INVALID_CODE
        if failure is not None or menu is None:
            await self._ussd_failed(message_id, session_id, slot, failure or ussd_menus.INVALID_CODE, code)
            return
        session = self._sessions[slot] = ussd_menus.Session(session_id, menu, trio.current_time())
        await self._answered(message_id, slot, code, session, bool(data.get("auto_cancel", True)))

    async def _reply(self, command: Command) -> None:
        data, message_id = command["data"], command.get("message_id")
        slot, reply = int(data["sim_slot"]), str(data["reply"])
        failure = await self._ussd_failure(slot)
        session = self._sessions.get(slot)
        if failure is None:
            is_known = session is not None and session.session_id == data["session_id"]
            failure = session.choose(reply, trio.current_time()) if session is not None and is_known else ussd_menus.TIMED_OUT
        if failure is not None or session is None:
            self._sessions.pop(slot, None)
            await self._ussd_failed(message_id, data["session_id"], slot, failure or ussd_menus.TIMED_OUT, None)
            return
        await self._answered(message_id, slot, reply, session, is_cancelled=False)

    async def _answered(self, message_id: str | None, slot: int, code: str, session: ussd_menus.Session, is_cancelled: bool) -> None:
        """The network has answered; a menu that is not to stay open is ended after 2 s."""
        menu, sim = session.menu, self.sims[slot]
        now = self._wall_ms()
        self.dialled.append(Dialled(message_id, slot, code, now))
        self._tell(Effect("send_ussd" if code in ussd_menus.CODES else "ussd_reply", self._device_id, message_id, slot, now, code))
        response = menu.answer(sim.balance)
        said = {
            "session_id": session.session_id,
            "message_id": message_id,
            "response": response,
            "cleaned_response": " ".join(response.split()),
            "status": "RESPONSE_RECEIVED",
            "is_menu": menu.is_menu,
            "auto_cancel": is_cancelled,
        }
        await self._answer(message_id, "ussd_response", said, is_effect=True)
        if not menu.is_menu or is_cancelled:
            self._sessions.pop(slot, None)
        if menu.is_menu and is_cancelled:
            await trio.sleep(ussd_menus.AUTO_CANCEL_S)
            about = {"session_id": session.session_id, "message_id": message_id, "ussd_code": code, "sim_slot": slot}
            await self._report("ussd_cancelled", {**about, "status": "CANCELLED", "reason": "auto_cancel_menu"})

    async def _ussd_failure(self, slot: int) -> int | None:
        behaviour, random = self.behaviour, self._random
        await trio.sleep(behaviour.draw_s(random, behaviour.ussd_s))
        sim = self.sims.get(slot)
        if sim is None or sim.is_blocked:
            return 4
        if not sim.is_served:
            return 1
        return random.choice(behaviour.ussd_failure_codes) if behaviour.happens(random, behaviour.ussd_failure_chance) else None

    async def _ussd_failed(self, message_id: str | None, session_id: str, slot: int, code: int, dialled: str | None) -> None:
        words = f"USSD request failed - {FAILURE_WORDS.get(code, 'failed')}"
        said = {"session_id": session_id, "message_id": message_id, "sim_slot": slot, "failure_code": code, "error_message": words}
        status = "TIMEOUT" if code == ussd_menus.TIMED_OUT else "FAILED"
        about = {} if dialled is None else {"ussd_code": dialled}
        await self._answer(message_id, "ussd_response_failed", {**said, **about, "status": status})

    # the ringer

    async def _ring(self, command: Command) -> None:
        kind, data = command["type"], command.get("data", {})
        done, failed = _ANSWERS[kind]
        said = _named(data, "alarm_type", "message")
        if self.behaviour.happens(self._random, self.behaviour.ring_failure_chance):
            await self._answer(None, failed, {**said, "status": "failed", "error": "the ringer is in use"})
            return
        self.is_ringing = kind != "alarm_stop"
        self.rang.append(Rang(kind, self._wall_ms()))
        self._tell(Effect(kind, self._device_id, None, None, self._wall_ms(), str(data.get("message", ""))))
        status = {"find_device": "success", "alarm_start": "started", "alarm_stop": "stopped"}[kind]
        await self._answer(None, done, {**said, "status": status}, is_effect=True)

    # telling

    async def _answer(self, message_id: str | None, kind: str, data: Mapping[str, Any], is_effect: bool = False) -> None:
        """Report the result of a command, if the phone comes to it."""
        behaviour, random = self.behaviour, self._random
        if message_id is not None and is_effect:
            self._results[message_id] = kind, data
        if behaviour.happens(random, behaviour.answer_lost_chance):
            return
        if is_effect and behaviour.happens(random, behaviour.restart_chance):
            self._forget()
            self._restart(behaviour.draw_s(random, behaviour.restart_s))
        await self._report(kind, data)

    def _forget(self) -> None:
        """The app was ended: what waited for a SIM, and every dialogue, is gone. What the radio has begun goes on."""
        for line in self._waiting.values():
            line.clear()
        self._sessions.clear()

    def _name(self, message_id: str | None) -> dict[str, str]:
        is_said = message_id is not None and self.behaviour.happens(self._random, self.behaviour.names_message_chance)
        return {"message_id": message_id} if is_said and message_id is not None else {}


_ANSWERS = {
    "find_device": ("find_device_success", "find_device_failed"),
    "alarm_start": ("alarm_started", "alarm_failed"),
    "alarm_stop": ("alarm_stopped", "alarm_stop_failed"),
}


def _named(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data}
