"""The load side: raw sockets on one epoll set, in a process of its own, so cheap that the server is what is measured.

    python -m bench.fleet ws://127.0.0.1:8080/ws --links 100 --in-flight 1 --seconds 5

Every link authenticates as an agent, `bench-<n>` with `bench-token-<n>`, then keeps so many HEARTBEAT frames in flight. Prints one JSON
object: messages, seconds, latencies, and the share of its own core that it used.
"""

import argparse
import json
import os
import resource
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HEADER = struct.Struct(">BB16sBH")
MASK = b"\x11\x22\x33\x44"
ACK_BYTES_MAX = 65_536
LATENCIES_KEPT = 200_000


def masked_frame(payload: bytes) -> bytes:
    """One binary WebSocket frame as a client sends it."""
    mask = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(payload), "big")
    size = len(payload)
    head = bytes((0x82, 0x80 | size)) if size < 126 else bytes((0x82, 0xFE)) + size.to_bytes(2, "big")
    return head + MASK + body


def agent_frame(frame_type: int, payload: bytes) -> bytes:
    """One frame of ours, in JSON, with a UUID of its own."""
    return HEADER.pack(0xAA, frame_type, os.urandom(16), 2, len(payload)) + payload


@dataclass(slots=True)
class LoadLink:
    """One connection: what it sends each time, how long an answer is, and when it asked."""

    sock: socket.socket
    question: bytes
    answer_bytes: int
    asked_at: list[float] = field(default_factory=list[float])
    rest: int = 0


def connect(url: str, number: int) -> LoadLink:
    """Upgrade, CONNECT, and measure how long the answer of a heartbeat is."""
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = (
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    sock.sendall(head.encode())
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := sock.recv(4096)):
            raise ConnectionError(f"refused: {data.decode(errors='replace')}")
        data += chunk
    credentials = json.dumps({"client_id": f"bench-{number}", "auth_token": f"bench-token-{number}"})
    sock.sendall(masked_frame(agent_frame(0x01, credentials.encode())))
    _read_frame(sock)
    question = masked_frame(agent_frame(0x04, b'{"timestamp":1704067200000}'))
    sock.sendall(question)
    answer_bytes = _read_frame(sock)
    sock.setblocking(False)
    return LoadLink(sock, question, answer_bytes)


def _read_frame(sock: socket.socket) -> int:
    """Read one unmasked frame; its length with its head."""
    head = sock.recv(2, socket.MSG_WAITALL)
    size, extra = head[1] & 0x7F, 0
    if size == 126:
        size, extra = int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big"), 2
    sock.recv(size, socket.MSG_WAITALL)
    return 2 + extra + size


def drive(links: list[LoadLink], in_flight: int, seconds: float) -> dict[str, float]:
    """Keep so many questions of each link in flight, for so long."""
    epoll = select.epoll()
    by_descriptor = {link.sock.fileno(): link for link in links}
    now = time.perf_counter
    begun_at = now()
    for descriptor, link in by_descriptor.items():
        epoll.register(descriptor, select.EPOLLIN)
        link.asked_at = [now()] * in_flight
        link.sock.send(link.question * in_flight)
    latencies: list[float] = []
    answered = 0
    ends_at = begun_at + seconds
    cpu_before = time.process_time()
    while now() < ends_at:
        for descriptor, _ in epoll.poll(1.0):
            link = by_descriptor[descriptor]
            got = link.rest + len(link.sock.recv(ACK_BYTES_MAX))
            answers, link.rest = divmod(got, link.answer_bytes)
            if not answers:
                continue
            answered += answers
            at = now()
            if len(latencies) < LATENCIES_KEPT:
                latencies.append(at - link.asked_at[0])
            link.asked_at = link.asked_at[answers:] + [at] * answers
            link.sock.send(link.question * answers)
    took = now() - begun_at
    latencies.sort()
    return {
        "messages": answered,
        "seconds": took,
        "per_second": answered / took,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[int(len(latencies) * 0.99)],
        "load_share": (time.process_time() - cpu_before) / took,
    }


def main() -> None:
    """Connect, wait for a line on stdin where asked to, drive, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--links", type=int, default=100)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--wait", action="store_true", help="Print READY when all are connected, and begin at a line on stdin.")
    asked = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    links = [connect(asked.url, number) for number in range(asked.links)]
    if asked.wait:
        print("READY", flush=True)
        input()
    print(json.dumps(drive(links, asked.in_flight, asked.seconds)), flush=True)


if __name__ == "__main__":
    main()
