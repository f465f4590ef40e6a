"""The head of a request: its bounds (H07, H08), who asks, and which browsers may (H01)."""

import pytest
import trio
from trio.testing import memory_stream_pair

from signal_gateway.domain.principal import LinkKind
from signal_gateway.websocket.handshake import check_origin, check_upgrade, describe_phone, kind_of, phone_key, plain_answer, upgrade_answer
from signal_gateway.websocket.request_head import GoneAway, HandshakeSettings, Refused, Request, parse_request, read_request

SETTINGS = HandshakeSettings()
UPGRADE = {
    "Host": "gateway.example:8080",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def head(target: str = "/ws", method: str = "GET", **headers: str | None) -> bytes:
    fields = {**UPGRADE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def request(target: str = "/ws", method: str = "GET", **headers: str | None) -> Request:
    return parse_request(head(target, method, **headers), b"", 64)


def refusal(target: str = "/ws", method: str = "GET", **headers: str | None) -> Refused:
    with pytest.raises(Refused) as caught:
        check_upgrade(request(target, method, **headers))
    return caught.value


def test_a_right_upgrade_is_accepted_as_the_rfc_s_example_and_agrees_on_nothing_else():
    """RFC 6455 §1.3 has this key and its answer."""
    asked = request("/ws", Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", Sec_WebSocket_Extensions="permessage-deflate")
    check_upgrade(asked)
    assert upgrade_answer(asked) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("target", "method", "headers", "status"),
    [
        ("/health", "GET", {}, 200),
        ("/health", "HEAD", {"Upgrade": None}, 200),
        ("/nothing", "GET", {}, 404),
        ("/ws/", "GET", {}, 404),
        ("/ws", "GET", {"Upgrade": None}, 426),
        ("/ws", "GET", {"Connection": "keep-alive"}, 426),
        ("/ws", "POST", {}, 426),
        ("/ws", "GET", {"Sec_WebSocket_Version": "8"}, 426),
        ("/ws", "GET", {"Sec_WebSocket_Key": None}, 400),
        ("/ws", "GET", {"Sec_WebSocket_Key": "dG9vIHNob3J0"}, 400),
        ("/ws", "GET", {"Sec_WebSocket_Key": "no base64, this is"}, 400),
    ],
)
def test_plain_http_gets_a_plain_answer(target: str, method: str, headers: dict[str, str | None], status: int):
    assert refusal(target, method, **headers).status == status


def test_a_plain_answer_is_one_whole_http_response():
    answer = plain_answer(Refused(429, "too_many", "slow down", {"Retry-After": "7"})).decode()
    assert answer.startswith("HTTP/1.1 429 Too Many Requests\r\n")
    assert "Retry-After: 7\r\n" in answer
    assert "Content-Length: 10\r\n" in answer
    assert answer.endswith("\r\n\r\nslow down\n")
    assert plain_answer(Refused(200, "health", "ok"), is_head=True).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("target", "headers", "kind"),
    [
        ("/ws?api_key=x", {}, LinkKind.PHONE),
        ("/ws?api_key=", {}, LinkKind.PHONE),
        ("/ws", {"Queue_Name": "q"}, LinkKind.PHONE),
        ("/ws", {"Device_Info": "{}", "Authorization": "Bearer x"}, LinkKind.PHONE),
        ("/ws", {"Authorization": "Bearer x"}, LinkKind.CONSOLE),
        ("/ws", {"Sec_WebSocket_Protocol": "signal-gateway.v1, bearer.x"}, LinkKind.CONSOLE),
        ("/ws", {"Sec_WebSocket_Protocol": "bearer.x"}, LinkKind.CONSOLE),
        ("/ws", {"Sec_WebSocket_Protocol": "arduino"}, LinkKind.AGENT),
        ("/ws", {"Authorization": "Basic x"}, LinkKind.AGENT),
        ("/ws?room=1", {}, LinkKind.AGENT),
        ("/ws", {}, LinkKind.AGENT),
    ],
)
def test_the_first_row_that_fits_says_who_asks(target: str, headers: dict[str, str], kind: LinkKind):
    assert kind_of(request(target, **headers)) is kind


def test_the_header_is_preferred_to_the_query():
    assert phone_key(request("/ws?api_key=in-query", Authorization="Bearer in-header")) == "in-header"
    assert phone_key(request("/ws?api_key=in-query")) == "in-query"
    assert phone_key(request("/ws", Queue_Name="q")) == ""


def test_a_phone_describes_itself():
    info = '{"device_id":"android-1","manufacturer":"Samsung","model":"Galaxy S21","sitename":"İzmir","sdk":31}'
    description, wants_key = describe_phone(request("/ws", Device_Info=info))
    assert (description.device_id, description.queue_name, description.manufacturer) == ("android-1", "android-1", "Samsung")
    assert description.sitename == "İzmir"
    assert description.info is not None
    assert description.info["sdk"] == 31
    assert not wants_key
    described, wants_key = describe_phone(request("/ws", Device_Info='{"device_id":"a","wants_device_key":true}', Queue_Name="q7"))
    assert (described.queue_name, wants_key) == ("q7", True)


@pytest.mark.parametrize(
    "info",
    [
        *(None, "", "{", "[]", "7", "{}", '{"device_id":7}', '{"device_id":""}', '{"device_id":"a b"}', "[" * 5000),
        *('{"device_id":"a","x":NaN}', '{"device_id":"a","device_id":"b"}', '{"device_id":"a","x":"\\ud800"}'),
        '{"device_id":"a","x":' + 40 * "[" + 40 * "]" + "}",
    ],
)
def test_a_phone_without_a_right_device_info_gets_400(info: str | None):
    with pytest.raises(Refused) as caught:
        describe_phone(request("/ws?api_key=x", Device_Info=info))
    assert (caught.value.status, caught.value.reason) == (400, "bad_device_info")


GOOD_ORIGINS = ["http://gateway.example:8080", "http://gateway.example:8081", "https://console.example"]
BAD_ORIGINS = [
    "null",
    "",
    "http://gateway.example",
    "http://gateway.example:9999",
    "http://evil.example",
    "http://gateway.example.evil.example:8080",
    "http://evilgateway.example:8080",
    "http://gateway.example:8080.evil.example",
    "http://user@gateway.example:8080",
    "http://gateway.example:8080/",
    "http://gateway.example:8080/path",
    "http://gateway.example:8080#x",
    "HTTP://gateway.example:8080",
    "https://console.example:444",
    "https://console.example.",
    "http://console.example",
    "https://xn--cnsole-dya.example",
    "ftp://gateway.example:8080",
    "file://",
    "http://gateway.example:80800",
    "http://[::1",
    "*",
]


@pytest.mark.parametrize("origin", GOOD_ORIGINS)
def test_own_and_allowed_origins_may_connect(origin: str):
    check_origin(request(Origin=origin), ("self", "https://console.example"), frozenset({8080, 8081}), believes_any=False)


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_other_origins_are_refused(origin: str):
    with pytest.raises(Refused) as caught:
        check_origin(request(Origin=origin), ("self", "https://console.example", "*"), frozenset({8080, 8081}), believes_any=False)
    assert caught.value.status == 403


def test_a_star_is_believed_on_loopback_only_and_no_origin_is_a_device():
    check_origin(request(Origin="http://anything.example"), ("*",), frozenset(), believes_any=True)
    check_origin(request(), (), frozenset(), believes_any=False)


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /ws HTTP/9.9\r\n\r\n",
        b"\r\n\r\n",
        b"GET /ws HTTP/1.1\r\n\r\n",
        b"GET //[ HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_400(noise: bytes):
    with pytest.raises(Refused) as caught:
        parse_request(noise, b"", 64)
    assert caught.value.status == 400


def test_sixty_five_headers_are_one_too_many():
    many = {f"X_{number}": "y" for number in range(59)}
    assert len(request(**many).headers) == 64
    with pytest.raises(Refused) as caught:
        request(**many, X_Last="y")
    assert caught.value.status == 431


def test_an_upgrade_that_could_not_be_handed_on_gets_400():
    head_bytes = head().replace(b"gateway.example", b"g\xffteway.example")
    with pytest.raises(Refused) as caught:
        check_upgrade(parse_request(head_bytes, b"", 64))
    assert caught.value.status == 400


async def test_a_head_may_come_in_pieces_and_what_stands_behind_it_is_kept(autojump_clock: trio.testing.MockClock):
    client, server = memory_stream_pair()
    whole = head() + b"first frame"

    async def send_slowly() -> None:
        for start in range(0, len(whole), 50):
            await client.send_all(whole[start : start + 50])
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_slowly)
        asked = await read_request(server, SETTINGS)
        first = asked.rest + bytes(await server.receive_some() if len(asked.rest) < 11 else b"")
    assert b"first frame".startswith(first)


async def test_a_loris_gets_408_after_five_seconds(autojump_clock: trio.testing.MockClock):
    client, server = memory_stream_pair()
    await client.send_all(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
    started_at = trio.current_time()
    with pytest.raises(Refused) as caught:
        await read_request(server, SETTINGS)
    assert caught.value.status == 408
    assert trio.current_time() - started_at == pytest.approx(5.0)


async def test_a_head_over_sixteen_kibibytes_gets_431():
    client, server = memory_stream_pair()
    await client.send_all(head(X_Big="y" * 16_384))
    with pytest.raises(Refused) as caught:
        await read_request(server, SETTINGS)
    assert caught.value.status == 431


async def test_a_peer_that_leaves_is_not_answered():
    client, server = memory_stream_pair()
    await client.send_all(b"GET /ws")
    await client.aclose()
    with pytest.raises(GoneAway):
        await read_request(server, SETTINGS)
