"""Simulated devices on links that do not behave."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any, cast

import trio
from trio.testing import MockClock

from signal_gateway.testing.client import Client
from signal_gateway.testing.phone import SimulatedPhone, invent_phone


class Silent:
    """A link on which nothing ever comes but what it is made with."""

    def __init__(self, *messages: Mapping[str, Any]) -> None:
        self.messages = [json.dumps(message) for message in messages]
        self.sent: list[str] = []

    async def send(self, message: str) -> None:
        self.sent.append(message)

    async def receive(self, deadline_s: float) -> str:
        if self.messages:
            return self.messages.pop(0)
        with trio.fail_after(deadline_s):
            await trio.sleep_forever()
        raise AssertionError


def phone_on(*links: Silent) -> tuple[SimulatedPhone, list[float]]:
    dialled_at: list[float] = []
    waiting = list(links)

    @asynccontextmanager
    async def dial(_resource: str, _headers: Mapping[str, str]) -> AsyncGenerator[Client]:
        dialled_at.append(trio.current_time())
        yield cast("Client", waiting.pop(0) if waiting else Silent())

    return SimulatedPhone(invent_phone(1, Random(1)), "key", dial, random=Random(1)), dialled_at


async def test_a_phone_whose_upgrade_is_answered_by_silence_dials_again(autojump_clock: MockClock, nursery: trio.Nursery):
    phone, dialled_at = phone_on()
    nursery.start_soon(phone.live)
    await trio.sleep(30)
    assert len(dialled_at) == 3  # 10 s without an answer, then 1 to 5 s of patience
    assert phone.numbers.failures["no answer in time"] == 2
    nursery.cancel_scope.cancel()


async def test_an_answer_that_nobody_asked_for_is_counted(autojump_clock: MockClock, nursery: trio.Nursery):
    phone, _ = phone_on(Silent({"type": "connection_established", "settings": {}}, {"type": "ack", "request_id": "x"}))
    await nursery.start(phone.live)
    await trio.sleep(1)
    assert phone.numbers.failures == {"an answer that nobody asked for": 1}
    nursery.cancel_scope.cancel()


async def test_a_phone_stamps_its_messages_with_the_clock_it_was_given(autojump_clock: MockClock, nursery: trio.Nursery):
    link = Silent({"type": "connection_established", "settings": {}})
    phone, _ = phone_on(link)
    phone._wall_ms = lambda: 1234
    await nursery.start(phone.live)
    await trio.sleep(31)
    assert json.loads(link.sent[0])["timestamp"] == 1234
    nursery.cancel_scope.cancel()
