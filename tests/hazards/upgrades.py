"""Requests for an upgrade, byte by byte as a hostile client writes them, and the first line of what comes back."""

import trio

from signal_gateway.testing.world import World

UPGRADE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)
PHONE = (b"Authorization: Bearer demo-enrolment-key", b'Device-Info: {"device_id":"raw-phone"}')


def head(*lines: bytes, host: bytes = b"gateway.example:8080", target: bytes = b"/ws") -> bytes:
    """The head of an upgrade with these further header lines."""
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", b"Host: " + host, *UPGRADE, *lines, b"", b""))


async def answer_to(world: World, request: bytes) -> bytes:
    """The head of the answer, whole; the connection is closed then."""
    stream = world.connect()
    try:
        with trio.fail_after(20):
            await stream.send_all(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                if not (chunk := bytes(await stream.receive_some())):
                    break
                answer += chunk
        return answer.partition(b"\r\n\r\n")[0]
    finally:
        await trio.aclose_forcefully(stream)


async def status_of(world: World, request: bytes) -> int:
    """The status of the answer; 0 when there is none."""
    answer = await answer_to(world, request)
    return int(answer.split(b" ", 2)[1]) if answer else 0
