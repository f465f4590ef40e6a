"""Who guesses tokens or ids learns nothing, neither by words nor by work, and is soon told to wait (H04).

Work is counted, not timed: digests made and compared, statements of the database, lines of the audit trail, steps of the interpreter.
"""

import hmac
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.domain.credential import CredentialKind
from signal_gateway.domain.errors import BadCredentials, RateLimited
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.operators import Operators
from signal_gateway.testing.world import World, open_world
from signal_gateway.websocket.server_settings import ServerSettings
from tests.hazards.steps import Steps
from tests.hazards.upgrades import answer_to, head, status_of
from tests.services import conftest as services_conftest
from tests.services.conftest import ADDRESS, ENROLMENT_KEY, TOKEN_SECRET, Services
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import closing, connect, phone_headers

services = services_conftest.services

CASES = ("unknown id", "id of the configuration", "id with a stored key", "id that registered", "id of a phone", "key of another id")
KEYS: tuple[str, ...] = ("no key of ours in form", "well-formed key, unknown", "well-formed key, its id known")
WORK = {
    "connect": {"digests made": 1, "digests compared": 3, "statements": 2},
    "register": {"digests made": 1, "digests compared": 6, "statements": 2},
    "unregister": {"digests made": 1, "digests compared": 4, "statements": 2},
    "phone": {"digests made": 1, "digests compared": 2, "statements": 2},
}
"""Of one refused guess: one read of the database, and one line of the audit trail."""
GAP_MAX = 0.05
"""Of the steps of the median guess: the widest gap between two guesses."""
DOORS = ("connect", "register", "unregister", "phone")


@pytest.fixture
async def ids(services: Services) -> dict[str, str]:
    """One id for each case, and what a guesser may know: the public id of a stored key."""
    key_id, _ = await services.credentials.create(CredentialKind.CLIENT, client_id="agent-2")
    await services.register("agent-3", ENROLMENT_KEY)
    await services.phone(ENROLMENT_KEY, "phone-1")
    names = dict(zip(CASES, ("agent-9", "agent-1", "agent-2", "agent-3", "phone-1", "agent-4"), strict=True))
    return names | {"key": key_id}


@pytest.fixture
def work(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """What is done, by kind of work."""
    done: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            done[name] += 1
            return function(*arguments)

        return call

    counting = SimpleNamespace(digest=counted("digests made", hmac.digest), compare_digest=counted("digests compared", hmac.compare_digest))
    monkeypatch.setattr("signal_gateway.services.credentials.hmac", counting)

    def count(statement: str) -> None:
        done["statements"] += statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))

    with services.database.database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
    driver.set_trace_callback(count)
    yield done
    driver.set_trace_callback(None)


def guess(services: Services, door: str, client_id: str, key: str, address: str) -> Any:
    if door == "connect":
        return services.authentication.agent(client_id, key, address)
    if door == "register":
        return services.register(client_id, key, address)
    if door == "unregister":
        return services.registration.unregister(client_id, key, address)
    return services.phone(key, client_id, address)


async def refused(services: Services, door: str, client_id: str, key: str, number: int) -> str:
    with pytest.raises(BadCredentials) as caught:
        await guess(services, door, client_id, key, f"198.51.100.{number}")
    await services.settle()
    return (
        f"{caught.value.type} {caught.value.code} {caught.value.status} {caught.value.reason} {caught.value.message} {caught.value.details}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
async def test_every_wrong_guess_gets_the_same_words_for_the_same_work(
    autojump_clock: MockClock, services: Services, ids: dict[str, str], work: Counter[str], door: str
):
    keys = dict(zip(KEYS, ("wrong", f"sgk_{'a' * 12}_{'b' * 43}", f"sgk_{ids['key']}_{'b' * 43}"), strict=True))
    told: dict[tuple[str, str], tuple[str, Counter[str], int]] = {}
    for turn in range(2):  # the first turn fills caches of statements and the like
        for number, (case, key) in enumerate((case, key) for case in CASES for key in KEYS):
            work.clear()
            with Steps() as steps:
                words = await refused(services, door, ids[case], keys[key], 20 * turn + number)
            told[case, key] = (words, Counter(work), steps.taken)

    assert {words for words, _, _ in told.values()} == {
        "AUTHENTICATION_FAILED 4010 401 bad_credentials Invalid client_id or auth_token None"
    }
    assert {tuple(sorted(done.items())) for _, done, _ in told.values()} == {tuple(sorted(WORK[door].items()))}
    steps_taken = sorted(taken for _, _, taken in told.values())
    median = steps_taken[len(steps_taken) // 2]
    assert steps_taken[-1] - steps_taken[0] < GAP_MAX * median


async def test_guesses_of_operator_keys_that_come_together_do_not_pass_the_limit(autojump_clock: MockClock, services: Services):
    """All of them pass the door before the first is found to be wrong; those behind the tenth are told nothing of theirs."""
    about = services.database, services.bus, services.credentials, services.attempts, Metrics(), TOKEN_SECRET, services.wall_ms
    operators = Operators(*about)
    told: Counter[str] = Counter()

    async def try_key(key: str) -> None:
        try:
            await operators.prove(key, ADDRESS)
        except (BadCredentials, RateLimited) as error:
            told[error.reason] += 1

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(try_key, f"sgk_{number:010d}_{'x' * 43}")
    assert told == {"bad_credentials": 10, "rate_limited": 50}


async def test_the_counts_would_show_a_door_that_stops_early(
    autojump_clock: MockClock, services: Services, work: Counter[str], monkeypatch: pytest.MonkeyPatch
):
    """The method itself: an early return for unknown ids, as one writes it without thinking, makes less work."""
    with Steps() as known:
        await refused(services, "connect", "agent-1", "wrong", 1)
    done_for_known = Counter(work)
    work.clear()

    async def stop_early(client_id: str, token: str, address: str) -> None:
        await trio.lowlevel.checkpoint()
        if services.credentials.client_token(client_id) is None:
            raise BadCredentials

    monkeypatch.setattr(services.authentication, "agent", stop_early)
    with Steps() as unknown:
        await refused(services, "connect", "agent-9", "wrong", 2)

    assert work != done_for_known
    assert unknown.taken < (1 - GAP_MAX) * known.taken


class TestOverTheWire:
    """Behind a proxy that names each client's address, so that many addresses guess."""

    @pytest.fixture
    def config(self) -> Config:
        return Config(auth=DEMO_AUTH, server=ServerSettings(trusted_proxies=("127.0.0.1",)))

    @pytest.fixture
    async def world(self, config: Config) -> AsyncIterator[World]:
        async with open_world(config, transport="sockets") as world:
            yield world

    async def test_an_agent_fails_five_times_a_minute_with_an_id_and_is_then_told_429(self, autojump_clock: MockClock, world: World):
        async def status(token: str, address: str, client_id: str = "test_client_1") -> tuple[int, int]:
            async with world.dial("/ws", {"X-Forwarded-For": address}) as agent:
                answer = await connect(agent, client_id, token)
                return answer["status"], 0 if answer["status"] == 200 else await closing(agent)

        assert [await status("wrong", "198.51.100.1") for _ in range(5)] == [(401, 4501)] * 5
        assert await status("test_token_1", "198.51.100.1") == (429, 4002)
        assert await status("test_token_2", "198.51.100.1", "test_client_2") == (200, 0)
        assert await status("test_token_1", "198.51.100.2") == (200, 0)  # nobody locks another out
        assert world.metrics.limits.value("auth.max_failed_per_id_per_minute") == 1
        await trio.sleep(60)
        assert await status("test_token_1", "198.51.100.1") == (200, 0)

    async def test_an_address_fails_ten_times_a_minute_with_any_ids_and_is_then_told_429_before_its_key_is_looked_at(
        self, autojump_clock: MockClock, world: World
    ):
        async def status(device_id: str, key: str, address: str) -> int:
            headers = {**phone_headers(device_id, key), "X-Forwarded-For": address}
            lines = (f"{name}: {value}".encode() for name, value in headers.items())
            return await status_of(world, head(*lines))

        assert [await status(f"phone-{number}", "wrong", "198.51.100.1") for number in range(10)] == [401] * 10
        assert await status("phone-1", "demo-enrolment-key", "198.51.100.1") == 429
        assert await status("phone-1", "demo-enrolment-key", "198.51.100.2") == 101
        assert world.metrics.limits.value("security.max_failed_auth_per_ip_per_minute") == 1
        await trio.sleep(60)
        assert await status("phone-1", "demo-enrolment-key", "198.51.100.1") == 101

    async def test_a_phone_that_is_told_429_is_told_when_to_come_back(self, autojump_clock: MockClock, world: World):
        lines = [f"{name}: {value}".encode() for name, value in phone_headers("phone-1", "wrong").items()]
        for _ in range(5):
            assert await status_of(world, head(*lines, b"X-Forwarded-For: 198.51.100.1")) == 401
        await trio.sleep(20)
        answer = await answer_to(world, head(*lines, b"X-Forwarded-For: 198.51.100.1"))
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 40" in answer.split(b"\r\n")

    async def test_unknown_phones_and_wrong_keys_get_the_same_bytes(self, autojump_clock: MockClock, world: World):
        async def answer(device_id: str, key: str, number: int) -> bytes:
            lines = (f"{name}: {value}".encode() for name, value in phone_headers(device_id, key).items())
            return await answer_to(world, head(*lines, b"X-Forwarded-For: 198.51.100.%d" % number))

        assert (await answer("phone-1", "demo-enrolment-key", 1)).startswith(b"HTTP/1.1 101 ")
        told = {
            await answer("phone-1", "wrong", 2),
            await answer("phone-2", "wrong", 3),
            await answer("phone-1", "other-key", 4),  # a right key, and another device's
            await answer("test_client_1", "test_token_1", 5),  # an agent's token
        }
        assert len(told) == 1
        assert told.pop().startswith(b"HTTP/1.1 401 ")
