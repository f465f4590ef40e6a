"""The two programs in C speak WebSocket: the load side with each of our servers, the echo with a client that is awkward."""

import shutil
import socket
import struct
from collections.abc import Generator
from dataclasses import replace

import pytest

from bench.build import OPENSSL_HEADER, Unmeasured
from bench.load import Load, heartbeats_echoed, heartbeats_heard, measure, phones
from bench.messages import ACK_BEGINS, PHONE_HEARTBEAT, asking, padded
from bench.servers import Server, epoll_echo, gateway, wire_echo

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")]

SECONDS, WARM_UP_S = 0.3, 0.05
HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = b"\x01\x02\x03\x04"


def frame(opcode: int, payload: bytes) -> bytes:
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
    return bytes((0x80 | opcode,)) + size + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


@pytest.fixture(scope="module")
def echo() -> Generator[Server]:
    with epoll_echo() as server:
        yield server


@pytest.fixture
def client(echo: Server) -> Generator[socket.socket]:
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        assert chunk, f"the end, after {data!r}"
        data += chunk
    return data


def upgrade(sock: socket.socket) -> None:
    sock.sendall(HEAD)
    response = b""
    while not response.endswith(b"\r\n\r\n"):
        response += read(sock, 1)
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in response


def test_the_c_echo_bears_heads_and_frames_that_come_byte_by_byte(client: socket.socket):
    for byte in HEAD[:-1]:
        client.sendall(bytes((byte,)))
    client.sendall(HEAD[-1:] + frame(1, b"eager"))
    assert b"101" in read(client, len(b"HTTP/1.1 101"))
    data = b""
    while not data.endswith(b"\x81\x05eager"):
        data += read(client, 1)
    for byte in frame(2, b"x" * 300):
        client.sendall(bytes((byte,)))
    assert read(client, 4 + 300) == b"\x82\x7e\x01\x2c" + b"x" * 300


def test_the_c_echo_answers_many_frames_of_one_read_in_order_pings_too(client: socket.socket):
    upgrade(client)
    client.sendall(frame(2, b"a") + frame(9, b"ping") + frame(10, b"pong") + frame(1, b"b"))
    assert read(client, 3 + 6 + 3) == b"\x82\x01a" + b"\x8a\x04ping" + b"\x81\x01b"


def test_the_c_echo_answers_a_close_and_ends(client: socket.socket):
    upgrade(client)
    client.sendall(frame(8, b"\x03\xe8") + frame(2, b"never heard"))
    assert read(client, 4) == b"\x88\x02\x03\xe8"
    assert client.recv(1) == b""


@pytest.mark.parametrize("wrong", [b"\x82\x01a", b"\x02\x81\x00\x00\x00\x00a", b"\x82\xff" + bytes(8)], ids=["no mask", "fragment", "huge"])
def test_the_c_echo_ends_what_it_does_not_speak(client: socket.socket, wrong: bytes):
    upgrade(client)
    client.sendall(wrong)
    assert client.recv(1) == b""


def test_a_client_that_does_not_read_loses_nothing(client: socket.socket):
    upgrade(client)
    client.settimeout(0.2)
    sent, message = 0, frame(2, b"x" * 1000)
    try:
        while sent < 50_000_000:  # until neither side takes more
            sent += client.send(message[sent % len(message) :])
    except TimeoutError:
        pass
    client.settimeout(10)
    whole, answer = sent // len(message), b"\x82\x7e\x03\xe8" + b"x" * 1000
    assert whole > 10
    for _ in range(whole):
        assert read(client, len(answer)) == answer


def test_the_load_side_and_the_c_echo_speak(echo: Server):
    figures = measure(echo, heartbeats_echoed(20, 3), SECONDS, WARM_UP_S)
    assert figures["messages"] > 0
    assert figures["cpu_us"] > 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["worst_ms"]


def test_the_load_side_keeps_its_pace(echo: Server):
    """Ten links that ask each 20 ms ask 500 times a second, and ten more where a window begins; unpaced, many thousand times."""
    paced = measure(echo, replace(heartbeats_echoed(10, 1), pace_s=0.02), SECONDS, WARM_UP_S)
    assert 0 < paced["messages"] <= 500 * paced["seconds"] + 20


def test_the_load_side_speaks_with_an_echo_on_our_wire():
    with wire_echo() as server:
        assert measure(server, heartbeats_echoed(20, 3), SECONDS, WARM_UP_S)["messages"] > 0
        passing = measure(server, replace(heartbeats_echoed(0, 1), storm=4, sources=2), SECONDS, WARM_UP_S)
    assert passing["messages"] > 0
    assert passing["cpu_us"] > 0


def test_the_load_side_speaks_with_the_gateway_as_agents_and_as_phones():
    silent, asks = padded(PHONE_HEARTBEAT, 600), padded(asking(PHONE_HEARTBEAT), 600)
    with gateway(clients=30) as server:
        agents = measure(server, replace(heartbeats_heard(10, 2), idle=10, deaf=10), SECONDS, WARM_UP_S)
        reports = measure(server, phones(10, silent, silent, asks, expected=ACK_BEGINS), SECONDS, WARM_UP_S)
        greeted = measure(server, replace(phones(0), storm=4, numbers=20), SECONDS, WARM_UP_S)
    assert min(agents["messages"], reports["messages"], greeted["messages"]) > 0


@pytest.mark.skipif(not OPENSSL_HEADER.exists() or shutil.which("openssl") is None, reason="needs OpenSSL and its headers")
def test_the_load_side_speaks_tls():
    with gateway(clients=10, tls=True) as server:
        assert measure(server, heartbeats_heard(10, 2), SECONDS, WARM_UP_S)["messages"] > 0


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (replace(heartbeats_echoed(2, 1), expected=b"\xaa\x05"), "otherwise than expected"),
        (replace(heartbeats_heard(2, 1), questions=(), first=b""), "nothing to ask"),
        (replace(heartbeats_echoed(2, 2), pace_s=0.01), "one question in flight"),
    ],
    ids=["a wrong answer", "no question", "a pace for several at once"],
)
def test_what_is_not_as_expected_is_no_figure(echo: Server, load: Load, why: str):
    with pytest.raises(Unmeasured, match=why):
        measure(echo, load, SECONDS, WARM_UP_S)


def test_a_refused_link_is_told_with_the_words_of_the_refusal():
    with gateway() as server, pytest.raises(Unmeasured, match="401"):
        measure(server, replace(phones(1, b"{}"), headers=("Authorization: Bearer wrong", 'Device-Info: {"device_id":"phone-1"}')), 0.1, 0)
