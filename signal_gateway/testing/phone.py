"""A simulated phone: what the Android app of seed 000 says and does, over any stream."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import trio

from signal_gateway.testing.behaviour import FLAWLESS, Behaviour
from signal_gateway.testing.client import Client, LinkClosed
from signal_gateway.testing.device import HEARTBEAT_S, Dial, SimulatedDevice
from signal_gateway.testing.modem import Modem
from signal_gateway.testing.numbers import FleetNumbers

ANSWER_S = 10.0
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


class SimulatedPhone(SimulatedDevice):
    """Connects with its key, keeps the settings it is told, beats, reports, and carries out commands as well as its behaviour is."""

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
        self._untold: dict[str, tuple[str, Mapping[str, Any]]] = {}  # reports that the server has not acknowledged
        self._told_count = 0
        self._tasks: trio.Nursery | None = None
        self.modem = Modem(profile.device_id, behaviour, self.random, self.tell)
        """What it does on the air."""

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
        """The server speaks first: settings."""
        await self.hear(client, await client.receive(ANSWER_S))
        await self._tell_again(client)

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
        self._asked_count += 1
        request_id = f"{self.device_id}-{self._asked_count}"
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
            self.settings = heard["settings"]
            self.device_key = heard.get("device_key", self.device_key)
        elif kind == "ack":
            self._hear_ack(heard["request_id"])
        elif kind == "error":
            self.numbers.failures[f"error: {heard['data']['reason']}"] += 1
        else:
            self.commands.append(heard)
            if self._tasks is not None:
                self._tasks.start_soon(self.modem.obey, kind, heard)

    def _hear_ack(self, request_id: str) -> None:
        if self._untold.pop(request_id, None) is not None:
            return
        asked = self._asked.pop(request_id, None)
        if asked is None and "-told-" in request_id:  # said twice, on two links, and acknowledged twice
            return
        if asked is None:
            self.numbers.failures["an answer that nobody asked for"] += 1
            return
        asked_at, answered = asked
        self.numbers.latencies_s.append(trio.current_time() - asked_at)
        answered.set()

    async def live(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See SimulatedDevice.live. What it does on the air goes on while it has no link."""
        async with trio.open_nursery() as nursery:
            self._tasks = nursery
            try:
                await super().live(task_status=task_status)
            finally:
                self._tasks = None
                nursery.cancel_scope.cancel()

    async def tell(self, kind: str, data: Mapping[str, Any], times: int = 1) -> None:
        """Report something until the server has it: now, and again on each new link until it is acknowledged.

        `times`: so often at once, under the same id, as a phone does that missed the first acknowledgement.
        """
        self._told_count += 1
        request_id = f"{self.device_id}-told-{self._told_count}"
        self._untold[request_id] = (kind, data)
        for _ in range(times):
            if self.client is not None:
                with suppress(LinkClosed):
                    await self.say(self.client, kind, data, request_id)

    async def _tell_again(self, client: Client) -> None:
        for request_id, (kind, data) in list(self._untold.items()):
            await self.say(client, kind, data, request_id)
