"""As an operator does it: a token, a hundred SMS over HTTP, and a server that is killed while they are under way."""

import json
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from signal_gateway.testing.behaviour import Behaviour
from signal_gateway.testing.client import open_client
from signal_gateway.testing.phone import SimulatedPhone, invent_phone
from tests.e2e.server import Server, command, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# One SMS in ten fails, so that three in a row do in every tenth run: the SIM then rests, by default for 300 s.
MORE = """
[commands]
dispatched_s = 4
sim_park_s = 2
[phones]
sim1_guard_interval = 0
sim2_guard_interval = 0
"""
PHONES = 4
HUNDRED = 100
BEHAVIOUR = Behaviour(send_s=(0.02, 0.2), network_error_chance=0.1)
FINAL = {"sent", "failed", "dead", "unknown"}


class Caller:
    """Calls the API of a running server, each time from a thread."""

    def __init__(self, server: Server, token: str) -> None:
        self.base = server._find(r"http://127\.0\.0\.1:\d+/api").removesuffix("/api")
        self.token = token

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        return await trio.to_thread.run_sync(self._call, method, path, body)

    def _call(self, method: str, path: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)


@asynccontextmanager
async def phones_at(url: str) -> AsyncGenerator[list[SimulatedPhone]]:
    base = url.removesuffix("/ws")

    def dial(resource: str, headers: Any) -> Any:
        return open_client(base + resource, headers)

    phones = [
        SimulatedPhone(invent_phone(number, Random(number)), "demo-enrolment-key", dial, behaviour=BEHAVIOUR) for number in range(PHONES)
    ]
    async with trio.open_nursery() as nursery:
        for phone in phones:
            await nursery.start(phone.live)
        yield phones
        nursery.cancel_scope.cancel()


async def test_a_server_killed_while_a_hundred_are_under_way_ends_each_in_one_state(tmp_path: Path):
    with ExitStack() as servers:
        first = servers.enter_context(running(tmp_path, more=MORE))
        issued = await trio.to_thread.run_sync(partial(command, tmp_path, "token", "issue", "--subject", "boss", "--role", "operator"))
        token = issued.stdout.splitlines()[-1]
        caller = Caller(first, token)
        async with phones_at(first.url) as phones:
            items = [
                {
                    "to": {"device": phones[number % PHONES].device_id},
                    "kind": "send_sms",
                    "data": {"phone_number": f"+90555{number:07d}", "message": f"message {number}"},
                    "message_id": f"m{number}",
                }
                for number in range(HUNDRED)
            ]
            accepted = {each["message_id"] for each in await caller.call("POST", "/api/commands", items)}
            assert len(accepted) == HUNDRED
            while sum(len(phone.sent) for phone in phones) < 20:  # noqa: ASYNC110 - what phones do has no event
                await trio.sleep(0.01)
            first.signal(signal.SIGKILL)
            await trio.to_thread.run_sync(first.wait)
            second = await trio.to_thread.run_sync(partial(servers.enter_context, running(tmp_path, port=first.port, more=MORE)))
            caller = Caller(second, token)
            states: dict[str, str] = {}
            with trio.fail_after(120):
                while set(states.values()) - FINAL or len(states) < HUNDRED:
                    await trio.sleep(0.5)
                    listed = await caller.call("GET", "/api/commands?limit=500")
                    states = {each["message_id"]: each["state"] for each in listed["items"]}
            done = Counter(effect.message_id for phone in phones for effect in phone.sent)
            assert states.keys() == accepted
            assert max(done.values()) == 1, done.most_common(3)
            assert {message_id for message_id, state in states.items() if state == "sent"} <= done.keys()
            for message_id in list(states)[:10]:
                timeline = (await caller.call("GET", f"/api/commands/{message_id}"))["timeline"]
                assert [step["state"] for step in timeline].count(states[message_id]) == 1
        second.signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(second.wait) == 0


def test_what_a_token_may_not_is_refused_and_a_revoked_one_is_worth_nothing(tmp_path: Path):
    with running(tmp_path) as server:
        viewer, _, token = command(tmp_path, "token", "issue", "--subject", "eve", "--role", "viewer").stdout.strip().partition("\n")
        caller = Caller(server, token)
        assert caller._call("GET", "/api/me", None)["role"] == "viewer"
        with pytest.raises(urllib.error.HTTPError) as refused:
            caller._call("DELETE", "/api/devices/x", None)
        refused.value.close()
        assert refused.value.code == 403
        assert command(tmp_path, "token", "revoke", viewer.split()[2]).returncode == 0
        refusals = (_status(caller) for _ in range(1000))  # each takes its time, and 2 s are what a revocation may take
        assert 401 in refusals


def _status(caller: Caller) -> int:
    try:
        caller._call("GET", "/api/me", None)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    time.sleep(0.01)
    return 200
