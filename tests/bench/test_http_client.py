"""The bench's own HTTP client against a server that is scripted."""

import pytest
import trio

from bench.http_client import open_http

ANSWER = b'HTTP/1.1 202 \r\nContent-Length: 13\r\n\r\n{"state": "q"'


async def serve_once(stream: trio.SocketStream, asked: list[bytes], pieces: list[bytes]) -> None:
    async with stream:
        for piece in pieces:
            asked.append(await stream.receive_some(65_536))
            for byte in piece:
                await stream.send_all(bytes([byte]))


async def asked_of(nursery: trio.Nursery, asked: list[bytes], pieces: list[bytes]) -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, lambda stream: serve_once(stream, asked, pieces), [listener])
    return listener.socket.getsockname()[1]


async def test_requests_follow_each_other_on_one_connection(nursery: trio.Nursery):
    asked: list[bytes] = []
    answer = ANSWER.replace(b"13", b"14") + b"}"
    port = await asked_of(nursery, asked, [answer, b"HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n"])
    async with open_http(port, "secret") as http:
        assert await http.call("POST", "/x", {"a": 1}) == (202, {"state": "q"})
        assert await http.call("GET", "/y") == (204, None)
    assert asked[0].startswith(b"POST /x HTTP/1.1\r\n")
    assert b"Bearer secret\r\n" in asked[0]
    assert asked[0].endswith(b'\r\n\r\n{"a": 1}')
    nursery.cancel_scope.cancel()


async def test_a_server_that_goes_in_the_middle_of_an_answer_is_told(nursery: trio.Nursery):
    port = await asked_of(nursery, [], [ANSWER.replace(b"13", b"14")])
    async with open_http(port) as http:
        with pytest.raises(trio.BrokenResourceError, match="closed"):
            await http.call("GET", "/x")
    nursery.cancel_scope.cancel()
