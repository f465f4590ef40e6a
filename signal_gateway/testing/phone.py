"""A simulated phone: what the Android app of seed 000 says and hears, over any stream. What it does is its handset's."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import trio

from signal_gateway.testing.behaviour import FLAWLESS, Behaviour
from signal_gateway.testing.client import Client, LinkClosed
from signal_gateway.testing.device import HEARTBEAT_S, Dial, SimulatedDevice
from signal_gateway.testing.handset import Dialled, Effect, Handset, Rang, SentSms, ignore
from signal_gateway.testing.numbers import FleetNumbers
from signal_gateway.testing.sim_card import SimulatedSim

ANSWER_S = 10.0
ACKNOWLEDGED_KEPT = 10_000
REPEAT_S = 30.0
"""A result that is not acknowledged is reported again after so long."""
MAKES = (("Samsung", "Galaxy S21"), ("Xiaomi", "Redmi Note 12"), ("Google", "Pixel 6"), ("Motorola", "Moto G54"))
CARRIERS = (("Turkcell", "286", "01"), ("Vodafone", "286", "02"), ("Türk Telekom", "286", "03"))


def wall_ms() -> int:
    """The phone's clock: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class PhoneProfile:
    """Which phone it is."""

    device_id: str
    queue_name: str
    manufacturer: str = "Samsung"
    model: str = "Galaxy S21"
    android_version: str = "12"
    sitename: str = "simulated"
    device_group: str = "simulated"
    sim_cards: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def invent_phone(number: int, random: Random, prefix: str = "sim") -> PhoneProfile:
    """A plausible phone `<prefix>-phone-<number>`, the same for the same number and seed."""
    manufacturer, model = random.choice(MAKES)
    sims = [_invent_sim(slot, random) for slot in range(random.choice((1, 2)))]
    return PhoneProfile(f"{prefix}-phone-{number:04d}", f"{prefix}-queue-{number:04d}", manufacturer, model, sim_cards=sims)


def _invent_sim(slot: int, random: Random) -> dict[str, Any]:
    carrier, mcc, mnc = random.choice(CARRIERS)
    digits = "".join(random.choices("0123456789", k=9))
    return {
        "slot_index": slot,
        "carrier_name": carrier,
        "phone_number": f"+905{digits}",
        "network_mcc": mcc,
        "network_mnc": mnc,
        "is_active": True,
        "imei": f"355000{digits}",
        "imsi": f"{mcc}{mnc}0{digits}",
        "iccid": f"89900{digits}12345",
        "signal_strength": random.randint(1, 4),
        "signal_dbm": -random.randint(55, 110),
        "network_type": "LTE",
    }


@dataclass(slots=True)
class KeptReport:
    """A result that the server has not acknowledged yet."""

    kind: str
    data: Mapping[str, Any]
    said_at: float | None = None
    """Seconds of Trio's clock; None: not once."""


class SimulatedPhone(SimulatedDevice):
    """Connects with its key, keeps the settings it is told, beats, reports, and obeys commands as its behaviour has it."""

    def __init__(
        self,
        profile: PhoneProfile,
        api_key: str,
        dial: Dial,
        numbers: FleetNumbers | None = None,
        random: Random | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        wall_ms: Callable[[], int] = wall_ms,
        behaviour: Behaviour = FLAWLESS,
        tell: Callable[[Effect], None] = ignore,
    ) -> None:
        super().__init__(profile.device_id, dial, numbers or FleetNumbers(), random or Random(profile.device_id), heartbeat_s)
        self.profile = profile
        self.settings: dict[str, Any] = {}
        """The 19 settings of `connection_established`."""
        self.device_key: str | None = None
        self.wants_device_key = False
        self.commands: list[dict[str, Any]] = []
        """Commands heard, oldest first."""
        self._api_key = api_key
        self._wall_ms = wall_ms
        self._battery = self.random.randint(40, 100)
        self._asked: dict[str, tuple[float, trio.Event]] = {}
        self._asked_count = 0
        self._begun = f"{self._now_ms():x}{self.random.getrandbits(24):06x}"  # two lives of a phone never use an id twice
        self._unacknowledged: dict[str, KeptReport] = {}
        self._repeated: set[str] = set()
        """Reports that may be acknowledged more than once, for they were said more than once."""
        self.acknowledged: deque[KeptReport] = deque(maxlen=ACKNOWLEDGED_KEPT)
        """The newest results that the server has acknowledged."""
        self._last: tuple[str, KeptReport] | None = None
        """The newest result that was acknowledged."""
        self._tell = tell
        sims = [SimulatedSim.of_card(card) for card in profile.sim_cards]
        told = self._report_result, self._restart, self._note_effect
        self.handset = Handset(profile.device_id, sims, self.random, self._now_ms, *told, behaviour)
        """What it does in the world."""

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves; that of its handset may be changed at any time."""
        return self.handset.behaviour

    @property
    def sims(self) -> Mapping[int, SimulatedSim]:
        """By slot."""
        return self.handset.sims

    @property
    def sent(self) -> list[SentSms]:
        """The SMS that really went out, oldest first."""
        return self.handset.sent

    @property
    def dialled(self) -> list[Dialled]:
        """The USSD codes and replies that the network really answered."""
        return self.handset.dialled

    @property
    def rang(self) -> list[Rang]:
        """When it rang, or fell silent, because it was told to."""
        return self.handset.rang

    def known_as_done(self) -> list[str]:
        """The commands of which it has reported, by id, that they were done, and was told that this is kept."""
        done = {"sms_log": "sent", "rcs_log": "sent", "ussd_response": "RESPONSE_RECEIVED"}
        told = [kept.data for kept in self.acknowledged if kept.kind in done and done[kept.kind] == kept.data.get("status")]
        return [data["message_id"] for data in told if data.get("message_id")]

    async def live(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See SimulatedDevice.live. Its handset works on while there is no link."""
        async with trio.open_nursery() as nursery:
            self.handset.work_in(nursery)
            nursery.start_soon(self._repeat_on)
            await super().live(task_status=task_status)
            nursery.cancel_scope.cancel()

    def where(self) -> tuple[str, Mapping[str, str]]:
        """See SimulatedDevice.where: the key goes into the header, where no proxy logs it."""
        info = {name: getattr(self.profile, name) for name in ("device_id", "manufacturer", "model", "device_group", "sitename")}
        if self.wants_device_key:
            info["wants_device_key"] = True
        return "/ws", {
            "Authorization": f"Bearer {self._api_key}",
            "Queue-Name": self.profile.queue_name,
            "Device-Info": json.dumps(info),
        }

    async def introduce(self, client: Client) -> None:
        """The server speaks first: settings. Then comes what it has not acknowledged yet."""
        await self.hear(client, await client.receive(ANSWER_S))
        if self._last is not None and self.behaviour.happens(self.random, self.behaviour.repeat_chance):
            await self._say_kept(client, *self._last)
        for request_id, kept in list(self._unacknowledged.items()):
            await self._say_kept(client, request_id, kept)

    async def beat(self, client: Client) -> None:
        """A heartbeat with all of T-17."""
        self._battery = max(1, min(100, self._battery + self.random.choice((-1, 0, 0, 1))))
        profile = self.profile
        data = {
            "device_info": {
                "manufacturer": profile.manufacturer,
                "model": profile.model,
                "android_version": profile.android_version,
                "device_id": profile.device_id,
                "sitename": profile.sitename,
                "device_group": profile.device_group,
            },
            "battery_level": self._battery,
            "battery_status": "discharging",
            "signal_strength": 4,
            "signal_dbm": -65,
            "network_type": "LTE",
            "sim_cards": profile.sim_cards,
            "location": {"latitude": 41.0082, "longitude": 28.9784},
        }
        await self.say(client, "heartbeat", data)

    async def report(self, kind: str, data: Mapping[str, Any]) -> None:
        """Report something and wait until the server has it on disk. Raises trio.TooSlowError, LinkClosed."""
        if self.client is None:
            raise RuntimeError(f"{self.device_id} has no link")
        request_id = self._new_request_id()
        answered = trio.Event()
        self._asked[request_id] = (trio.current_time(), answered)
        await self.say(self.client, kind, data, request_id)
        with trio.fail_after(ANSWER_S):
            await answered.wait()

    async def report_sms(self) -> None:
        """An SMS came in: the most frequent thing that a phone reports."""
        number = f"+905{self.random.randrange(10**8, 10**9)}"
        await self.report("sms_message", {"phone_number": number, "message": "hello", "direction": "received", "sim_slot": 0})

    async def say(self, client: Client, kind: str, data: Mapping[str, Any], request_id: str | None = None) -> None:
        """Send one message in the envelope of seed 000 §2.1."""
        message: dict[str, Any] = {"type": kind, "timestamp": self._wall_ms(), "data": data}
        if request_id is not None:
            message["request_id"] = request_id
        await client.send(json.dumps(message, ensure_ascii=False))
        self.numbers.sent[kind] += 1

    async def hear(self, client: Client, message: bytes | str) -> None:
        """See SimulatedDevice.hear."""
        heard = json.loads(message)
        kind = str(heard["type"])
        self.numbers.heard[kind] += 1
        if kind == "connection_established":
            self.settings = self.handset.settings = heard["settings"]
            self.device_key = heard.get("device_key", self.device_key)
        elif kind == "ack":
            self._hear_ack(heard["request_id"])
        elif kind == "error":
            self.numbers.failures[f"error: {heard['data']['reason']}"] += 1
            self._hear_refusal(heard["data"])
        else:
            self.commands.append(heard)
            self.numbers.commands[kind] += 1
            if self.behaviour.acknowledges_commands and "message_id" in heard:
                await self.say(client, "command_ack", {"message_id": heard["message_id"], "status": 200})
            self.handset.obey(kind, heard)

    def _hear_ack(self, request_id: str) -> None:
        kept = self._unacknowledged.pop(request_id, None)
        if kept is not None:
            self._last = request_id, kept
            self.acknowledged.append(kept)
            self.numbers.latencies_s.append(trio.current_time() - (kept.said_at or 0.0))
            return
        asked = self._asked.pop(request_id, None)
        if asked is None:
            if request_id not in self._repeated:
                self.numbers.failures["an answer that nobody asked for"] += 1
            return
        asked_at, answered = asked
        self.numbers.latencies_s.append(trio.current_time() - asked_at)
        answered.set()

    def _hear_refusal(self, refusal: Mapping[str, Any]) -> None:
        """What is wrong in itself is not reported again; what could not be taken now is."""
        if 400 <= refusal.get("status", 0) < 500 and refusal["status"] != 429:
            self._unacknowledged.pop(str(refusal.get("request_id")), None)

    # results

    async def _report_result(self, kind: str, data: Mapping[str, Any]) -> None:
        """Report what became of a command, now or with the next link."""
        self.numbers.results[f"{kind} {data.get('status', '')}".strip()] += 1
        if not self.behaviour.keeps_reports:
            if self.client is not None:
                with suppress(LinkClosed):
                    await self.say(self.client, kind, data)
            return
        request_id, kept = self._new_request_id(), KeptReport(kind, data)
        self._unacknowledged[request_id] = kept
        for _ in range(1 + self.behaviour.happens(self.random, self.behaviour.says_twice_chance)):
            if self.client is not None:
                with suppress(LinkClosed):  # the next link hears it
                    await self._say_kept(self.client, request_id, kept)

    async def _say_kept(self, client: Client, request_id: str, kept: KeptReport) -> None:
        if kept.said_at is not None:
            self._repeated.add(request_id)
        kept.said_at = trio.current_time()
        await self.say(client, kept.kind, kept.data, request_id)

    async def _repeat_on(self) -> None:
        """What was not acknowledged for a while is said again, on the link that there is."""
        while True:
            await trio.sleep(REPEAT_S)
            overdue = trio.current_time() - REPEAT_S
            for request_id, kept in list(self._unacknowledged.items()):
                if self.client is not None and (kept.said_at is None or kept.said_at <= overdue):
                    with suppress(LinkClosed):
                        await self._say_kept(self.client, request_id, kept)

    def _restart(self, away_s: float) -> None:
        """The app ends and comes back later; what it has to report is on its disk."""
        self.hang_up(away_s)

    def _note_effect(self, effect: Effect) -> None:
        self.numbers.effects[effect.kind] += 1
        self._tell(effect)

    def _new_request_id(self) -> str:
        self._asked_count += 1
        return f"{self.device_id}-{self._begun}-{self._asked_count}"

    def _now_ms(self) -> int:
        return self._wall_ms()
