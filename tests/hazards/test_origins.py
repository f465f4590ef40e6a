"""A page of another site must not speak for whoever looks at it: cross-site WebSocket hijacking (H01)."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.testing.world import World, open_world
from signal_gateway.websocket.admission import SecuritySettings
from signal_gateway.websocket.server_settings import ServerSettings
from tests.hazards.upgrades import PHONE, head, status_of
from tests.websocket.conftest import DEMO_AUTH

OURS = ("http://gateway.example:8080", "http://gateway.example:8081", "https://console.example")
HOSTILE = {
    "null": "null",
    "null in capitals": "NULL",
    "empty": "",
    "star": "*",
    "another host": "http://evil.example:8080",
    "our name as a prefix": "http://gateway.example.evil.example:8080",
    "our name as a suffix": "http://evilgateway.example:8080",
    "a host below ours": "http://sub.gateway.example:8080",
    "the host above ours": "http://example:8080",
    "a dot at the end": "http://gateway.example.:8080",
    "our name behind the port": "http://gateway.example:8080.evil.example",
    "another port": "http://gateway.example:9999",
    "no port": "http://gateway.example",
    "an empty port": "http://gateway.example:",
    "a port with a zero before": "http://gateway.example:08080",
    "a port that is none": "http://gateway.example:80800",
    "scheme in capitals": "HTTP://gateway.example:8080",
    "host in capitals": "http://GATEWAY.example:8080",
    "another scheme": "ftp://gateway.example:8080",
    "the scheme of the link": "ws://gateway.example:8080",
    "no scheme": "gateway.example:8080",
    "a file": "file://",
    "an extension": "chrome-extension://gateway.example:8080",
    "userinfo": "http://user@gateway.example:8080",
    "our name as userinfo": "http://gateway.example:8080@evil.example",
    "a path": "http://gateway.example:8080/",
    "a fragment": "http://evil.example#http://gateway.example:8080",
    "a query": "http://gateway.example:8080?x",
    "a backslash": "http://gateway.example:8080\\.evil.example",
    "two values in one line": "http://gateway.example:8080, http://evil.example",
    "two values, a blank between": "http://gateway.example:8080 http://evil.example",
    "an open bracket": "http://[::1",
    "a letter of another script": "http://g\u0430teway.example:8080",
    "a wide letter that folds to ours": "http://\uff47ateway.example:8080",
    "a letter that is ours but for a dot": "http://gatew\u1ea1y.example:8080",
    "punycode of a look-alike": "https://xn--cnsole-dya.example",
    "the allowed host by http": "http://console.example",
    "the allowed host, another port": "https://console.example:444",
    "the allowed host, a dot at its end": "https://console.example.",
    "the allowed host in capitals": "https://Console.example",
    "a host below the allowed one": "https://evil.console.example",
    "the allowed name as a prefix": "https://console.example.evil.example",
}
SECURITY = SecuritySettings(allowed_origins=("self", "https://console.example", "null", "*"))
"""On an address that others reach: there `*` is believed no more than `null`, which any sandboxed page sends."""
BEYOND_LOOPBACK = Config(auth=DEMO_AUTH, security=SECURITY, server=ServerSettings(host="0.0.0.0"))


def asks(origin: str | None, **options: Any) -> bytes:
    """A phone's upgrade, its key right, from a page of this origin."""
    return head(*PHONE, *(() if origin is None else (b"Origin: " + origin.encode(),)), **options)


async def outcome(world: World, request: bytes) -> tuple[int, float, int]:
    """The status, how many messages were said, and how often the database was asked: a refusal comes before the 101 and before the key."""
    reads: list[object] = []
    read = world.database.look_up

    async def count(work: Any, **options: Any) -> Any:
        reads.append(work)
        return await read(work, **options)

    world.database.look_up = count
    try:
        status = await status_of(world, request)
        await trio.sleep(1)
    finally:
        world.database.look_up = read
    return status, sum(world.metrics.messages.values.values()), len(reads)


@pytest.mark.parametrize("origin", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_page_of_another_origin_gets_403_and_no_link(autojump_clock: MockClock, origin: str):
    async with open_world(BEYOND_LOOPBACK) as world:
        assert await outcome(world, asks(origin)) == (403, 0, 0)
        assert world.metrics.refusals.value("bad_origin") == 1


def test_at_least_twenty_hostile_origins_are_tried():
    assert len(set(HOSTILE.values())) >= 20


@pytest.mark.parametrize("origin", [*OURS, None])
async def test_our_own_pages_the_allowed_ones_and_devices_get_their_link(autojump_clock: MockClock, origin: str | None):
    async with open_world(BEYOND_LOOPBACK) as world:
        status, said, reads = await outcome(world, asks(origin))
        assert (status, reads) == (101, 1)
        assert said >= 1


async def test_of_two_origin_lines_neither_is_believed(autojump_clock: MockClock):
    twice = head(*PHONE, b"Origin: http://gateway.example:8080", b"Origin: http://evil.example")
    same = head(*PHONE, b"Origin: http://gateway.example:8080", b"Origin: http://gateway.example:8080")
    async with open_world(BEYOND_LOOPBACK) as world:
        assert await status_of(world, twice) == 403
        assert await status_of(world, same) == 403


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (b"kiosk.example:8080", "http://\u212aiosk.example:8080", 403),  # the Kelvin sign is "k" in lower case
        (b"GATEWAY.example:8080", "http://gateway.example:8080", 101),
        (b"gateway.example", "https://gateway.example", 101),  # behind a proxy on port 443
        (b"gateway.example", "https://gateway.example:", 403),
        (b"[::1]:8080", "http://[::1]:8080", 101),
        (b"[::1]:8080", "http://::1:8080", 403),
        (b"127.0.0.1:8080", "http://127.0.0.1:8080", 101),
        (b"127.0.0.1:8080", "http://127.1:8080", 403),
        (b"127.0.0.1:8080", "http://localhost:8080", 403),
        (b"evil.example:8080", "http://gateway.example:8080", 403),
        (b"user@gateway.example:8080", "http://gateway.example:8080", 403),
    ],
)
async def test_this_host_is_the_one_that_was_asked_letter_by_letter(autojump_clock: MockClock, host: bytes, origin: str, status: int):
    async with open_world(BEYOND_LOOPBACK) as world:
        assert await status_of(world, asks(origin, host=host)) == status


@pytest.mark.parametrize(
    ("server", "status"),
    [
        (ServerSettings(host="127.0.0.1"), 101),
        (ServerSettings(host="::1"), 101),
        (ServerSettings(host="0.0.0.0"), 403),
        (ServerSettings(host="192.0.2.7"), 403),
        (ServerSettings(host="0.0.0.0", insecure=True), 101),
    ],
)
async def test_a_star_is_believed_on_loopback_or_where_the_operator_says_insecure(
    autojump_clock: MockClock, server: ServerSettings, status: int
):
    config = Config(auth=DEMO_AUTH, security=SecuritySettings(allowed_origins=("*",)), server=server)
    async with open_world(config) as world:
        assert await status_of(world, asks("http://anywhere.example")) == status
