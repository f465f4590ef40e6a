"""What is in a simulated phone below its app: SIMs that send one thing at a time, cost money, and fail as its behaviour says."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

import trio

from signal_gateway.testing.behaviour import Behaviour
from signal_gateway.testing.ussd_menus import UssdService

PRICE = Decimal("0.10")
"""Of one message."""
MENU_S = 2.0
"""After which the app ends a menu by itself (T-42)."""
USSD_CODES = (-1, 1, 2, 3, 4, 5, 7, 8)
NO_SERVICE, SIM_ABSENT, NETWORK = 4, 120, 112
"""Codes of Android's SmsManager, and 4 of T-39."""

Tell = Callable[[str, Mapping[str, Any], int], Awaitable[None]]
"""Says a report so many times, now or when there is a link again."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that the phone really did: an SMS on the air, a code that was dialled, a ring."""

    kind: str
    device_id: str
    message_id: str | None
    sim_slot: int | None
    at: float
    what: str = ""


@dataclass(slots=True)
class Sim:
    """One SIM."""

    slot: int
    balance: Decimal = Decimal("50.00")
    busy: trio.Lock = field(default_factory=trio.Lock)
    ussd: UssdService = field(default_factory=UssdService)


class Modem:
    """Carries out commands. `effects` is what the world noticed of it."""

    def __init__(self, device_id: str, behaviour: Behaviour, random: Random, tell: Tell) -> None:
        self.device_id = device_id
        self.behaviour = behaviour
        self.effects: list[Effect] = []
        self._random = random
        self._tell = tell
        self._sims: dict[int, Sim] = {}

    def sim(self, slot: int) -> Sim:
        """The SIM in a slot."""
        return self._sims.setdefault(slot, Sim(slot))

    async def obey(self, kind: str, command: Mapping[str, Any]) -> None:
        """Carry out one command, from its sending to the last report of it."""
        data: Mapping[str, Any] = command.get("data", {})
        if kind in ("send_sms", "send_rcs"):
            await self._send(kind, command.get("message_id"), data)
        elif kind in ("send_ussd", "ussd_reply"):
            await self._ussd(kind, command.get("message_id"), data)
        else:
            await self._ring(kind, data)

    async def _send(self, kind: str, message_id: str | None, data: Mapping[str, Any]) -> None:
        slot = data["sim_slot"]
        said: dict[str, Any] = {name: data[name] for name in ("sim_slot", "phone_number", "message") if name in data}
        if self._chance(self.behaviour.names_command) or kind == "send_rcs":
            said["message_id"] = message_id
        log = "sms_log" if kind == "send_sms" else "rcs_log"
        async with self.sim(slot).busy:
            await trio.sleep(self._random.uniform(*self.behaviour.send_s))
            for chance, code in ((self.behaviour.network_error, NETWORK), (self.behaviour.sim_error, SIM_ABSENT)):
                if self._chance(chance):
                    await self._say(log, {**said, "status": "failed", "error_code": code})
                    return
            self._did(kind, message_id, slot, data["message"])
            self.sim(slot).balance -= PRICE
        if self._chance(self.behaviour.says_nothing):
            return
        if self._chance(self.behaviour.restarts):
            await trio.sleep(self._random.uniform(*self.behaviour.restart_s))
        await self._say(log, {**said, "status": "sent"})
        if kind == "send_sms":
            await self._deliver(message_id, data)

    async def _deliver(self, message_id: str | None, data: Mapping[str, Any]) -> None:
        """The network's own report, some time later: once, twice or never."""
        if self._chance(self.behaviour.delivery_never):
            return
        status = "failed" if self._chance(self.behaviour.delivery_fails) else "delivered"
        report = {"phone_number": data["phone_number"], "message_id": message_id, "status": status, "sim_slot": data["sim_slot"]}
        for _ in range(2 if self._chance(self.behaviour.delivery_twice) else 1):
            await trio.sleep(self._random.uniform(*self.behaviour.delivery_s))
            await self._tell("sms_delivery_report", report, 1)

    async def _ussd(self, kind: str, message_id: str | None, data: Mapping[str, Any]) -> None:
        sim = self.sim(data["sim_slot"])
        session_id = data.get("session_id") or f"session {message_id}"
        about = {"message_id": message_id, "session_id": session_id}
        async with sim.busy:
            await trio.sleep(float(data.get("delay", 0)) + self._random.uniform(*self.behaviour.send_s))
            self._did(kind, message_id, sim.slot, str(data.get("ussd_code") or data.get("reply")))
            if self._chance(self.behaviour.ussd_fails):
                code = self._random.choice(USSD_CODES)
                await self._say("ussd_response_failed", {**about, "sim_slot": sim.slot, "failure_code": code, "status": "FAILED"})
                return
            if kind == "send_ussd":
                answer = sim.ussd.dial(data["ussd_code"], session_id, sim.balance)
            else:
                answer = sim.ussd.reply(session_id, data["reply"], sim.balance)
            if answer is None:
                failed = {**about, "sim_slot": sim.slot, "failure_code": 3, "status": "FAILED"}
                await self._say("ussd_response_failed", failed)
                return
            is_menu = sim.ussd.is_open(session_id)
            await self._say("ussd_response", {**about, "response": answer, "status": "RESPONSE_RECEIVED", "is_menu": is_menu})
            if is_menu and data.get("auto_cancel", True):
                await trio.sleep(MENU_S)
                sim.ussd.end(session_id)
                cancelled = {**about, "sim_slot": sim.slot, "status": "CANCELLED", "reason": "auto_cancel_menu"}
                await self._say("ussd_cancelled", cancelled)

    async def _ring(self, kind: str, data: Mapping[str, Any]) -> None:
        await trio.sleep(self._random.uniform(*self.behaviour.send_s))
        well, badly = {
            "find_device": (("find_device_success", "success"), ("find_device_failed", "failed")),
            "alarm_start": (("alarm_started", "started"), ("alarm_failed", "failed")),
            "alarm_stop": (("alarm_stopped", "stopped"), ("alarm_stop_failed", "failed")),
        }[kind]
        if self._chance(self.behaviour.network_error):
            await self._say(badly[0], {"status": badly[1], "error": "no speaker"})
            return
        self._did(kind, None, None, str(data.get("message", "")))
        if not self._chance(self.behaviour.says_nothing):
            await self._say(well[0], {"status": well[1], **{name: data[name] for name in ("alarm_type", "message") if name in data}})

    async def _say(self, kind: str, data: Mapping[str, Any]) -> None:
        await self._tell(kind, data, 2 if self._chance(self.behaviour.says_twice) else 1)

    def _did(self, kind: str, message_id: str | None, slot: int | None, what: str) -> None:
        self.effects.append(Effect(kind, self.device_id, message_id, slot, trio.current_time(), what))

    def _chance(self, share: float) -> bool:
        return share > 0 and self._random.random() < share
