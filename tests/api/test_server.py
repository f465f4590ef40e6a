"""The server under the application, over real sockets: peers that go away, heads that are too large, bodies that come late."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
import trio
from trio.testing import MockClock

from signal_gateway.api.connection import Inbox
from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.domain.access import Role
from signal_gateway.testing.world import open_world
from tests.api.conftest import Api
from tests.websocket.test_commands import patient

HEAD = b"POST /api/devices/phone-1/find HTTP/1.1\r\nHost: gateway.example\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def connected(api: Api) -> AsyncGenerator[trio.SocketStream]:
    """The client's end of a connection that the server serves until its end."""
    ours, theirs = trio.socket.socketpair()
    client = trio.SocketStream(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(api.server.serve_connection, trio.SocketStream(theirs))
        yield client
        await client.aclose()


async def answer_to(api: Api, *parts: bytes) -> bytes:
    """All that the server says to this, sent in so many writes, until it closes or has said an answer whole."""
    async with connected(api) as client:
        for part in parts:
            await client.send_all(part)
        return await whole_answer(client)


async def whole_answer(client: trio.SocketStream) -> bytes:
    said = b""
    while not said.endswith(b"}") and (more := await client.receive_some()):
        said += more
    return said


@pytest.mark.parametrize("who", ["admin", "a.wrong.token"])
async def test_a_peer_that_goes_away_in_the_middle_of_its_body_is_no_fault(api: Api, who: str):
    head = HEAD + f"Authorization: Bearer {api.tokens.get(who, who)}\r\nContent-Length: 20\r\n\r\n{{".encode()
    for steps in range(40):
        async with connected(api) as client:
            await client.send_all(head)
            for _ in range(steps % 20):
                await trio.lowlevel.checkpoint()
    assert api.world.metrics.errors.value("api_connection") == api.world.metrics.errors.value("api") == 0


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"what?\r\n\r\n"])
async def test_a_connection_whose_peer_has_gone_counts_no_longer(autojump_clock: MockClock, api: Api, said: bytes):
    """It was kept for `http.keep_alive_s`, and 512 of such a minute kept everybody out."""
    began_at = trio.current_time()
    for pause_s in (0, 1):
        async with connected(api) as client:
            await client.send_all(said)
            await trio.sleep(pause_s)
    assert trio.current_time() - began_at < 2


@pytest.mark.parametrize("fields", [{"x-long": 60_000}, {f"x-{number}": 20 for number in range(1000)}], ids=["one", "many"])
@pytest.mark.parametrize("pieces", [1, 100])
async def test_a_head_that_is_too_large_is_refused_however_it_comes(api: Api, fields: dict[str, int], pieces: int):
    lines = "".join(f"{name}: {'a' * chars}\r\n" for name, chars in fields.items())
    head = f"GET /health HTTP/1.1\r\nHost: gateway.example\r\n{lines}\r\n".encode()
    size = -(-len(head) // pieces)
    async with connected(api) as client:
        with suppress(trio.BrokenResourceError):  # it may be refused before it is whole
            for begin in range(0, len(head), size):
                await client.send_all(head[begin : begin + size])
        assert b" 431 " in (said := await client.receive_some()).partition(b"\r\n")[0]
        assert b'"code":"head_too_large"' in said


async def test_a_head_that_is_just_not_too_large_is_served(api: Api):
    assert b" 200 " in await answer_to(api, b"GET /health HTTP/1.1\r\nHost: gateway.example\r\nX: " + b"a" * 16_000 + b"\r\n\r\n")


async def test_a_body_is_bounded_in_bytes_and_in_time_however_it_comes(autojump_clock: MockClock, api: Api):
    head = HEAD + f"Authorization: Bearer {api.tokens['admin']}\r\n".encode()
    settings = HttpSettings()
    said = await answer_to(api, head + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 33)
    assert (said[9:12], b"body_too_large" in said, b"onnection: close" in said) == (b"413", True, True)
    assert (await answer_to(api, head + b"Content-Length: 3000000\r\n\r\n"))[9:12] == b"413"
    async with connected(api) as client:
        began_at = trio.current_time()
        await client.send_all(head + b"Content-Length: 2000\r\n\r\n")

        async def drip() -> None:
            while True:
                await client.send_all(b" ")
                await trio.sleep(settings.body_seconds_max * 0.6)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            said = await whole_answer(client)
            nursery.cancel_scope.cancel()
    assert (said[9:12], b"body_too_slow" in said) == (b"408", True)
    assert trio.current_time() - began_at == pytest.approx(settings.body_seconds_max, abs=1)
    limits = api.world.metrics.limits
    assert (limits.value("http.body_bytes_max"), limits.value("http.body_seconds_max")) == (2, 1)


async def test_an_upgrade_is_refused_like_all_else(api: Api):
    upgrade = "GET /api HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    said = await answer_to(api, f"{upgrade}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    head, _, body = said.partition(b"\r\n\r\n")
    assert (head[9:12], b"application/problem+json" in head, json.loads(body)["code"]) == (b"404", True, "not_found")


async def test_a_preflight_of_an_origin_that_is_not_allowed_is_refused_like_all_else(autojump_clock: MockClock):
    config = msgspec.structs.replace(patient(), http=HttpSettings(allowed_origins=("https://good.example",)))
    async with open_world(config) as world:
        api = Api(world)
        asked = {"origin": "https://evil.example", "access-control-request-method": "GET"}
        refused = await api.call("OPTIONS", "/api/devices", who=None, headers=asked)
        assert (refused.status, refused.json["code"], refused.json["detail"]) == (400, "bad_request", "Disallowed CORS origin")
        assert refused.headers["content-type"] == "application/problem+json"
        allowed = await api.call("OPTIONS", "/api/devices", who=None, headers={**asked, "origin": "https://good.example"})
        assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://good.example")


async def test_what_cannot_be_done_to_a_thing_is_refused_with_what_can(api: Api):
    refused = await api.call("PUT", "/api/devices")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert (await api.call("PUT", "/api/devices/phone-1/settings")).headers["allow"] == "GET, HEAD, PATCH"
    assert (await api.call("GET", "/api/devices/phone-1/send-sms")).headers["allow"] == "POST"


async def test_a_request_has_one_idempotency_key(api: Api):
    head = HEAD + f"Authorization: Bearer {api.tokens['admin']}\r\nContent-Length: 2\r\n".encode()
    twice = await answer_to(api, head + b"Idempotency-Key: a\r\nidempotency-key: b\r\n\r\n{}")
    assert (twice[9:12], b"Idempotency-Key stands twice" in twice) == (b"400", True)
    assert (await answer_to(api, head + b"Idempotency-Key: a\r\n\r\n{}"))[9:12] == b"404"


async def test_head_is_get_without_its_body(api: Api):
    request = "{} /api/devices HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + api.tokens["admin"] + "\r\n\r\n"
    got, asked = [await answer_to(api, request.format(method).encode()) for method in ("GET", "HEAD")]
    head, _, body = got.partition(b"\r\n\r\n")
    assert json.loads(body)["items"] == []
    assert asked == head + b"\r\n\r\n"


@pytest.mark.parametrize("who", ["admin", "a.wrong.token", "sgk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"])
async def test_who_is_answered_before_their_body_has_come_is_let_go(api: Api, who: str):
    """Both the reader, whose parts nobody took, and the answer waited for room among them, for ever."""
    head = f"PUT /api/devices HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {api.tokens.get(who, who)}\r\n\r\n"
    async with connected(api) as client:
        with suppress(trio.BrokenResourceError):
            await client.send_all(head.encode() + 200 * (b"1000\r\n" + 4096 * b" " + b"\r\n"))
        said = b""
        with suppress(trio.BrokenResourceError), trio.fail_after(20):
            while more := await client.receive_some():
                said += more
    assert said[9:12] == (b"405" if who == "admin" else b"401")


async def test_parts_of_a_body_wait_for_room_and_the_end_of_the_request_for_nothing(autojump_clock: MockClock):
    inbox, refused = Inbox(2), {"type": "http.request", "body": b"4", "more_body": True}
    for body in (b"1", b"2"):
        await inbox.put({"type": "http.request", "body": body, "more_body": True})
    with trio.move_on_after(1) as full:
        await inbox.put({"type": "http.request", "body": b"3", "more_body": True})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.put, refused)
        await trio.testing.wait_all_tasks_blocked()
        await inbox.put({"type": "http.disconnect"})
    heard = [await inbox.take() for _ in range(4)]
    assert full.cancelled_caught
    assert [part.get("body") for part in heard] == [b"1", b"2", None, b"4"]


async def test_the_end_of_a_body_is_said_with_its_last_part_or_by_itself(autojump_clock: MockClock):
    inbox = Inbox(2)
    end = {"type": "http.request", "body": b"", "more_body": False}
    await inbox.put({"type": "http.request", "body": b"1", "more_body": True})
    await inbox.put(dict(end))
    assert await inbox.take() == {"type": "http.request", "body": b"1", "more_body": False}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.put, dict(end))
        assert await inbox.take() == end


async def test_a_connection_ends_when_nothing_was_asked_for_a_while_and_not_while_it_is_answered(autojump_clock: MockClock):
    config = msgspec.structs.replace(patient(), http=HttpSettings(keep_alive_s=2))
    async with open_world(config) as world:
        api = Api(world)
        token = await api.issue("admin", Role.ADMIN)
        poll = f"GET /api/reports?wait=5 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        async with connected(api) as client:
            began_at = trio.current_time()
            for _ in range(2):
                await client.send_all(poll)
                assert (await whole_answer(client))[9:12] == b"200"
            assert trio.current_time() - began_at == pytest.approx(10, abs=0.5)
            assert await client.receive_some() == b""
            assert trio.current_time() - began_at == pytest.approx(12, abs=0.5)


async def test_a_server_that_ends_lets_an_answer_end_first_and_waits_for_nobody_who_asks_nothing(autojump_clock: MockClock, api: Api):
    poll = f"GET /api/reports?wait=3 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.tokens['admin']}\r\n\r\n".encode()
    async with connected(api) as asking, connected(api) as idle:
        await asking.send_all(poll)
        await trio.sleep(1)
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(api.server.drain)
            assert await idle.receive_some() == b""
            assert trio.current_time() == began_at
            assert (await whole_answer(asking))[9:12] == b"200"
            assert await asking.receive_some() == b""
        assert trio.current_time() - began_at == pytest.approx(2, abs=0.5)
