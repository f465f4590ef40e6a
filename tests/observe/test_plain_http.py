"""Metrics and health over HTTP: small answers within bounds."""

import errno
import json

import pytest
import trio
import trio.testing

from signal_gateway.observe.health import Health
from signal_gateway.observe.metrics import Metrics
from signal_gateway.observe.plain_http import MetricsSettings, PlainHttp


@pytest.fixture
def health():
    return Health()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def server(health, metrics):
    return PlainHttp(MetricsSettings(port=0), metrics, health)


async def read_all(stream):
    answer = b""
    while chunk := await stream.receive_some():
        answer += chunk
    return answer


async def ask(server, question, pieces=None):
    """What the server says to the bytes of `question`, and that it closes."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.answer, theirs)
        for piece in pieces or [question]:
            await ours.send_all(piece)
        answer = await read_all(ours)
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in headers), body


def get(path, method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_metrics_are_told_in_prometheus_text(server, metrics):
    metrics.messages.add("in", "heartbeat", by=3)
    status, headers, body = await ask(server, get("/metrics"))
    assert status.startswith("HTTP/1.1 200")
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    assert b'signal_gateway_messages_total{direction="in",type="heartbeat"} 3.0\n' in body


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/health?verbose=1"])
async def test_ready_is_200_and_503_as_soon_as_a_check_fails(server, health, path):
    why = []
    health.add("storage", lambda: why[0] if why else None)
    status, headers, body = await ask(server, get(path))
    assert status.startswith("HTTP/1.1 200")
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"status": "ready", "checks": {"storage": "ok"}}
    why.append("disk full")
    status, _, body = await ask(server, get(path))
    assert status.startswith("HTTP/1.1 503")
    assert json.loads(body) == {"status": "not_ready", "checks": {"storage": "disk full"}}


async def test_live_is_200_even_while_draining(server, health):
    health.draining = True
    assert (await ask(server, get("/health/live")))[0].startswith("HTTP/1.1 200")
    status, _, body = await ask(server, get("/health/ready"))
    assert (status[9:12], json.loads(body)["status"]) == ("503", "draining")


async def test_head_has_the_length_and_no_body(server):
    status, headers, body = await ask(server, get("/health/live", "HEAD"))
    assert (status[9:12], headers["content-length"], body) == ("200", "18", b"")


async def test_another_path_is_404_and_another_method_405(server):
    assert (await ask(server, get("/")))[0][9:12] == "404"
    status, headers, _ = await ask(server, get("/metrics", "POST"))
    assert (status[9:12], headers["allow"]) == ("405", "get, head")


@pytest.mark.parametrize("bytes_a_piece", [1, 7])
async def test_a_request_in_pieces_is_one_request(server, bytes_a_piece):
    question = get("/health/live")
    pieces = [question[at : at + bytes_a_piece] for at in range(0, len(question), bytes_a_piece)]
    assert (await ask(server, question, pieces))[0][9:12] == "200"


async def test_what_is_not_http_gets_400(server):
    assert (await ask(server, b"\x16\x03\x01 hello\r\n\r\n"))[0][9:12] == "400"


@pytest.mark.parametrize(("head_bytes", "status"), [(8192, "200"), (8193, "431")])
async def test_a_head_has_at_most_8_kib(server, metrics, head_bytes, status):
    start = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX: "
    question = start + b"a" * (head_bytes - len(start) - 4) + b"\r\n\r\n"
    got, _, _ = await ask(server, question, [question[:4096], question[4096:]])
    assert got[9:12] == status
    assert metrics.limits.value("metrics.head_bytes_max") == (status == "431")


async def test_a_request_that_does_not_come_within_five_seconds_is_closed(server, metrics, autojump_clock):
    ours, theirs = trio.testing.memory_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.answer, theirs)
        await ours.send_all(b"GET /metr")
        assert await read_all(ours) == b""
    assert trio.current_time() - began == 5
    assert metrics.limits.value("metrics.seconds_max") == 1


async def test_one_connection_too_many_is_closed_and_the_next_is_served(health, metrics, autojump_clock):
    server = PlainHttp(MetricsSettings(connections_max=1), metrics, health)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.answer, theirs)
        await trio.testing.wait_all_tasks_blocked()
        refused, other = trio.testing.memory_stream_pair()
        await server.answer(other)
        assert await read_all(refused) == b""
        await ours.aclose()
    assert metrics.limits.value("metrics.connections_max") == 1
    assert (await ask(server, get("/health/live")))[0][9:12] == "200"


async def test_a_check_that_raises_ends_one_answer_and_is_counted(server, health, metrics, capsys):
    health.add("faulty", lambda: 1 / 0)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.answer, theirs)
        await ours.send_all(get("/health"))
        assert await read_all(ours) == b""
    assert metrics.errors.value("plain_http") == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert (await ask(server, get("/health/live")))[0][9:12] == "200"


async def test_an_asker_that_goes_away_is_no_error(server, metrics):
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(get("/metrics")[:10])
    await ours.aclose()
    await server.answer(theirs)
    assert metrics.errors.value("plain_http") == 0


async def test_it_listens_on_a_real_socket_and_tells_its_port(server, nursery):
    port = await nursery.start(server.run)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(get("/health/live"))
        assert (await read_all(stream)).endswith(b'\r\n\r\n{"status":"live"}\n')


async def test_a_port_in_use_is_told_with_the_setting(health, metrics, nursery):
    port = await nursery.start(PlainHttp(MetricsSettings(port=0), metrics, health).run)
    with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}: the port is in use \(metrics\.host, metrics\.port\)") as raised:
        await PlainHttp(MetricsSettings(port=port), Metrics(), health).run()
    assert raised.value.errno == errno.EADDRINUSE
