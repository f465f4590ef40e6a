"""A simulated operator: asks for commands of every kind, asks again when no answer came, takes some back, requeues what ended badly."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import trio

from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.command import CommandKind, CommandRequest, Target
from signal_gateway.domain.errors import GatewayError
from signal_gateway.services.commands import Commands

PATIENCE_S = 30.0
"""Without an answer for so long the same is asked again, under the same id."""
TRY_AGAIN_S = (1.0, 20.0)
SETS_OUT_WITHIN_S = 600.0
"""`not_before` lies at most so far ahead."""
PRIORITIES = (0, 0, 0, 50, 100, -50)
KINDS = (
    *[CommandKind.SEND_SMS] * 10,
    *[CommandKind.SEND_USSD, CommandKind.SEND_RCS] * 2,
    *[CommandKind.FIND_DEVICE, CommandKind.ALARM_START, CommandKind.ALARM_STOP],
)

Served = Callable[[], Commands | None]
"""The service, as it stands now; None while the gateway is down. What it said before a crash of the gateway's may be untrue."""


class SimulatedOperator:
    """`work` goes on until cancelled. What it asked for and what was promised to it is kept, over all lives of the gateway."""

    def __init__(self, name: str, devices: Sequence[str], served: Served, random: Random, wall_ms: Callable[[], int]) -> None:
        self.asked: dict[str, CommandRequest] = {}
        """By id: all that was tried."""
        self.accepted: list[str] = []
        """Ids that the gateway said it had."""
        self.refused: list[tuple[str, str]] = []
        """Id and reason, of all but those for which it was asked again."""
        self.taken_back = self.requeued = 0
        self._operator = Operator(name, Role.ADMIN)
        self._devices = devices
        self._served = served
        self._random = random
        self._wall_ms = wall_ms

    async def work(self, every_s: float, ttl_s: float) -> None:
        """Ask for something every so often, on average; each expires after `ttl_s`."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._random.expovariate(1 / every_s))
                for _ in range(self._random.choice((1, 1, 1, 5))):
                    message_id = f"{self._operator.subject}-{len(self.asked)}"
                    request = self.asked[message_id] = self.invent(message_id, ttl_s)
                    nursery.start_soon(self._ask, message_id, request)
                if self._random.random() < 0.1:
                    await self._change_one()

    def invent(self, message_id: str, ttl_s: float) -> CommandRequest:
        """Anything that an operator may want. No two texts are the same."""
        random = self._random
        kind = random.choice(KINDS)
        phone_number = f"+90555{random.randrange(10**7):07d}"
        text = f"{message_id} " + "x" * random.choice((0, 0, 0, 200))
        data: Mapping[CommandKind, dict[str, Any]] = {
            CommandKind.SEND_SMS: {"phone_number": phone_number, "message": text},
            CommandKind.SEND_RCS: {"phone_number": phone_number, "message": text},
            CommandKind.SEND_USSD: {"ussd_code": random.choice(("*123#", "*100#")), "delay": random.choice((0, 0, 20))},
            CommandKind.FIND_DEVICE: {"message": text},
            CommandKind.ALARM_START: {"alarm_type": "battery_low", "message": text},
            CommandKind.ALARM_STOP: {},
        }
        is_for_any = kind is CommandKind.SEND_SMS and random.random() < 0.2
        waits_s = random.uniform(0, min(SETS_OUT_WITHIN_S, ttl_s / 2)) if random.random() < 0.2 else None
        return CommandRequest(
            kind=kind,
            target=Target(None if is_for_any else random.choice(self._devices)),
            data=data[kind],
            sim_slot=None if is_for_any else random.choice((0, 0, None)),
            priority=random.choice(PRIORITIES),
            message_id=message_id,
            ttl_s=ttl_s,
            not_before=None if waits_s is None else self._wall_ms() + round(1000 * waits_s),
            delivery_report=random.random() < 0.5,
            retry_safe=random.random() < 0.05,
        )

    async def _ask(self, message_id: str, request: CommandRequest) -> None:
        while True:
            commands = self._served()
            if commands is not None:
                with trio.move_on_after(PATIENCE_S):
                    try:
                        await commands.submit(request, self._operator)
                    except GatewayError as refusal:
                        if refusal.status < 500:
                            self.refused.append((message_id, refusal.reason))
                            return
                    else:
                        if self._served() is commands:  # a gateway that has crashed meanwhile can promise nothing any more
                            self.accepted.append(message_id)
                            return
            await trio.sleep(self._random.uniform(*TRY_AGAIN_S))

    async def _change_one(self) -> None:
        """Take back, or requeue, whatever comes to hand: most are past it, and the gateway says so."""
        commands = self._served()
        if commands is None or not self.accepted:
            return
        message_id = self._random.choice(self.accepted[-20:])
        with trio.move_on_after(PATIENCE_S):
            try:
                if self._random.random() < 0.5:
                    await commands.cancel(message_id, self._operator)
                    self.taken_back += 1
                else:
                    await commands.requeue(message_id, self._operator)
                    self.requeued += 1
            except GatewayError as refusal:
                self.refused.append((message_id, refusal.reason))
