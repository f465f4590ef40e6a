"""Rooms beside what passes messages between WebSocket clients as its own trade: NATS (its WebSocket listener) and Socket.IO.

The same payload of 200 bytes, the same number of links, the same load side. A signal is an offer from one member to another, checked,
counted and rated as any: the gateway's way is the whole one.
"""

import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path

from bench.build import Unmeasured
from bench.load import Figures
from bench.messages import UUID
from bench.processes import cores, cpu_s, resident_bytes
from bench.raw_links import TEXT, Flow, Pump, RawLink, closed, masked, pumped
from bench.servers import INSTALLED, PEERS, Server, gateway, running_peer
from protocol.frame import FrameType, PayloadKind, decode_frame, encode_frame
from protocol.payload import write_json

PAYLOAD_BYTES = 200
PAIRS = 50
RECEIVERS = 200
IDLE_ROOMS, IDLE_MEMBERS = 2_000, 3
CANDIDATES = 10
GATHERED_TOGETHER = 5
"""Candidates that a browser sends one behind the other: it finds its own addresses all at once, and waits for no word of the other side."""
MEMORY_SETTLES_S = 2.0
READY = "Server is ready"
ROOMS = """
[rooms]
max_receivers = 100000
departure_grace_s = 1.0
"""


class Member(RawLink):
    """A member of the gateway's rooms, in frames."""

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(server.port, server.path)
        self.client_id = f"bench-{number:05}"
        self.ask(FrameType.REGISTER, auth_token=f"bench-token-{number:05}")

    def ask(self, frame_type: FrameType, **payload: object) -> dict[str, object]:
        """A request; its answer, which must be 200. What is said between is passed over."""
        self.begin(frame_type, **payload)
        return self.end()

    def begin(self, frame_type: FrameType, **payload: object) -> None:
        """Ask, and do not wait."""
        self.say(self._frame(frame_type, {"client_id": self.client_id, **payload}))

    def end(self) -> dict[str, object]:
        """The answer."""
        while True:
            answer = decode_frame(self.hear())
            if answer.uuid == UUID:
                read = json.loads(answer.payload)
                if read["status"] != 200:
                    raise Unmeasured(read["message"])
                return read

    def create(self) -> str:
        """A room; its id."""
        return str(self.ask(FrameType.WEBRTC_ROOM_CREATE, role="sender")["room_id"])

    def join(self, room_id: str) -> None:
        """Come in."""
        self.ask(FrameType.WEBRTC_ROOM_JOIN, room_id=room_id, role="receiver")

    def signal(self, room_id: str, to: str | None = None) -> bytes:
        """An offer whose payload has PAYLOAD_BYTES, as one WebSocket frame."""
        said = {"room_id": room_id, **({} if to is None else {"to": to}), "sdp": ""}
        said["sdp"] = "x" * (PAYLOAD_BYTES - len(write_json(said)))
        return masked(encode_frame(FrameType.SIGNAL_OFFER, UUID, PayloadKind.JSON, write_json(said)))

    @staticmethod
    def _frame(frame_type: FrameType, payload: dict[str, object]) -> bytes:
        return encode_frame(frame_type, UUID, PayloadKind.JSON, write_json({"version": "1.0.0", **payload}))


def _on_the_other_core(work: Callable[[float, float], Figures], seconds: float, warm_up_s: float) -> Figures:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores()[1]})
    try:
        return work(seconds, warm_up_s)
    finally:
        os.sched_setaffinity(0, before)


def measured(work: Callable[[float, float], Figures]) -> Callable[[float, float], Figures]:
    """The same, with the load side on the core that the server does not have."""
    return partial(_on_the_other_core, work)


def relayed(in_flight: int, seconds: float, warm_up_s: float) -> Figures:
    """Through the gateway: rooms of two, so many signals in flight each way."""
    with gateway(2 * PAIRS, more=ROOMS) as server:
        flows: dict[RawLink, Flow] = {}
        for pair in range(PAIRS):
            one, two = Member(server, 2 * pair), Member(server, 2 * pair + 1)
            room_id = one.create()
            two.join(room_id)
            one.hear()
            for speaker, hearer in ((one, two), (two, one)):
                question = speaker.signal(room_id, hearer.client_id)
                speaker.socket.sendall(question)
                flows[hearer] = Flow(_framed_size(hearer.hear()), speaker, question)
        pump = Pump(flows)
        figures = pumped(server.process_id, pump, lambda: pump.begin(in_flight), seconds, warm_up_s)
        closed(list(flows))
        return figures


def relayed_by_nats(in_flight: int, seconds: float, warm_up_s: float) -> Figures:
    """The same between pairs of clients of NATS, each subscribed to a subject of its own."""
    with nats() as server:
        clients = [_NatsClient(server, number) for number in range(2 * PAIRS)]
        flows: dict[RawLink, Flow] = {}
        for one, two in zip(clients[::2], clients[1::2], strict=True):
            for speaker, hearer in ((one, two), (two, one)):
                question = masked(hearer.publication)
                speaker.socket.sendall(question)
                flows[hearer] = Flow(_framed_size(hearer.hear()), speaker, question)
        pump = Pump(flows)
        figures = pumped(server.process_id, pump, lambda: pump.begin(in_flight), seconds, warm_up_s)
        closed(clients)
        return figures


def fanned_out(seconds: float, warm_up_s: float) -> Figures:
    """Through the gateway: one sender's signal to RECEIVERS receivers, the next one when all have it."""
    with gateway(RECEIVERS + 1, more=ROOMS) as server:
        sender = Member(server, RECEIVERS)
        room_id = sender.create()
        receivers = [Member(server, number) for number in range(RECEIVERS)]
        for receiver in receivers:
            receiver.join(room_id)
        for link in (sender, *receivers):
            link.hush(0.02)
        question = sender.signal(room_id)
        sender.socket.sendall(question)
        flows: dict[RawLink, Flow] = {receiver: Flow(_framed_size(receiver.hear()), sender, question) for receiver in receivers}
        return _broadcast(server, flows, seconds, warm_up_s)


def fanned_out_by_nats(seconds: float, warm_up_s: float) -> Figures:
    """The same to clients of NATS that are subscribed to one subject."""
    with nats() as server:
        sender = _NatsClient(server, RECEIVERS)
        receivers = [_NatsClient(server, number, subject="all") for number in range(RECEIVERS)]
        question = masked(receivers[0].publication)
        sender.socket.sendall(question)
        flows: dict[RawLink, Flow] = {receiver: Flow(_framed_size(receiver.hear()), sender, question) for receiver in receivers}
        return _broadcast(server, flows, seconds, warm_up_s)


def fanned_out_by_socket_io(seconds: float, warm_up_s: float) -> Figures:
    """The same to clients of Socket.IO in one of its rooms."""
    with socket_io() as server:
        sender, *receivers = [_SocketIoClient(server) for _ in range(RECEIVERS + 1)]
        question = masked(b'42["signal","' + b"x" * PAYLOAD_BYTES + b'"]', TEXT)
        sender.socket.sendall(question)
        flows: dict[RawLink, Flow] = {receiver: Flow(_framed_size(receiver.hear()), sender, question) for receiver in receivers}
        return _broadcast(server, flows, seconds, warm_up_s)


def cycled(in_a_row: int, seconds: float, warm_up_s: float) -> Figures:
    """Create, join, offer, answer, CANDIDATES candidates, leave: CPU of one such call, PAIRS at a time, as many as `relayed` has.

    Either side sends `in_a_row` of its candidates, one behind the other, before it waits for as many of the other side.
    """
    with gateway(2 * PAIRS, more=ROOMS) as server:
        pairs = [(Member(server, 2 * pair), Member(server, 2 * pair + 1)) for pair in range(PAIRS)]
        until = time.perf_counter() + warm_up_s
        while time.perf_counter() < until:
            _cycle(pairs, in_a_row)
        cycles, cpu_before, until = 0, cpu_s(server.process_id), time.perf_counter() + seconds
        while time.perf_counter() < until:
            _cycle(pairs, in_a_row)
            cycles += PAIRS
        cpu_us = 1e6 * (cpu_s(server.process_id) - cpu_before) / cycles
        closed([member for pair in pairs for member in pair])
        return {"cpu_us": cpu_us, "per_second": cycles / seconds}


def idle_members(seconds: float, warm_up_s: float) -> Figures:
    """Memory of the gateway for each member of IDLE_ROOMS rooms of IDLE_MEMBERS in which nobody says anything."""
    with gateway(IDLE_ROOMS * IDLE_MEMBERS, more=ROOMS) as server:
        time.sleep(MEMORY_SETTLES_S)
        before = resident_bytes(server.process_id)
        links: list[RawLink] = []
        for room in range(IDLE_ROOMS):
            members = [Member(server, IDLE_MEMBERS * room + place) for place in range(IDLE_MEMBERS)]
            room_id = members[0].create()
            for member in members[1:]:
                member.join(room_id)
            links += members
        time.sleep(MEMORY_SETTLES_S)
        held = resident_bytes(server.process_id) - before
        closed(links)
        return {"link_kib": held / len(links) / 1024}


def _cycle(pairs: Sequence[tuple[Member, Member]], in_a_row: int) -> None:
    """One call of each pair, step by step: all ask, then all are heard."""
    ones, twos = [one for one, _ in pairs], [two for _, two in pairs]
    rooms = [str(answer["room_id"]) for answer in _all_ask(ones, FrameType.WEBRTC_ROOM_CREATE, {"role": "sender"})]
    _all_ask(twos, FrameType.WEBRTC_ROOM_JOIN, {"role": "receiver"}, rooms)
    for one in ones:
        one.hear()  # the event
    candidate = {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}
    _all_pass(ones, twos, FrameType.SIGNAL_OFFER, {"sdp": "x" * 100}, rooms)
    _all_pass(twos, ones, FrameType.SIGNAL_ANSWER, {"sdp": "x" * 100}, rooms)
    for number in range(CANDIDATES // in_a_row):
        speakers, hearers = (ones, twos) if number % 2 else (twos, ones)
        _all_pass(speakers, hearers, FrameType.SIGNAL_ICE_CANDIDATE, {"candidate": candidate}, rooms, in_a_row)
    _all_ask(twos, FrameType.WEBRTC_ROOM_LEAVE, {}, rooms)
    for one in ones:
        one.hear()
    _all_ask(ones, FrameType.WEBRTC_ROOM_LEAVE, {}, rooms)


def _all_ask(
    members: Sequence[Member], frame_type: FrameType, payload: dict[str, object], rooms: Sequence[str] = ()
) -> list[dict[str, object]]:
    for member, room_id in zip_longest(members, rooms):
        member.begin(frame_type, **payload, **({} if room_id is None else {"room_id": room_id}))
    return [member.end() for member in members]


def _all_pass(
    speakers: Sequence[Member],
    hearers: Sequence[Member],
    frame_type: FrameType,
    payload: dict[str, object],
    rooms: Sequence[str],
    in_a_row: int = 1,
) -> None:
    for speaker, hearer, room_id in zip(speakers, hearers, rooms, strict=True):
        said = {"room_id": room_id, "to": hearer.client_id, **payload}
        for _ in range(in_a_row):
            speaker.say(encode_frame(frame_type, UUID, PayloadKind.JSON, write_json(said)))
    for hearer in hearers:
        for _ in range(in_a_row):
            hearer.hear()


def _broadcast(server: Server, flows: dict[RawLink, Flow], seconds: float, warm_up_s: float) -> Figures:
    pump = Pump(flows, gather=len(flows))
    figures = pumped(server.process_id, pump, pump.broadcast, seconds, warm_up_s)
    closed(list(flows))
    return figures


def _framed_size(payload: bytes) -> int:
    """Bytes of a server's frame with this payload."""
    return len(payload) + (2 if len(payload) < 126 else 4)


class _NatsClient(RawLink):
    """Subscribed to a subject; `publication` is what somebody says to send it PAYLOAD_BYTES."""

    def __init__(self, server: Server, number: int, subject: str | None = None) -> None:
        super().__init__(server.port, server.path)
        subject = subject or f"s{number:05}"
        self.hear()  # INFO
        self.say(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %s 1\r\nPING\r\n' % subject.encode())
        if b"PONG" not in self.hear():
            raise Unmeasured("NATS does not answer")
        self.publication = b"PUB %s %d\r\n%s\r\n" % (subject.encode(), PAYLOAD_BYTES, b"x" * PAYLOAD_BYTES)


class _SocketIoClient(RawLink):
    """In the one room of `socket_io.js`."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.port, "/socket.io/?EIO=4&transport=websocket")
        self.hear()  # its handshake
        self.say(b"40", TEXT)
        if not self.hear().startswith(b"40"):
            raise Unmeasured("Socket.IO does not answer")


@contextmanager
def nats() -> Generator[Server]:
    """nats-server with its WebSocket listener, as it comes."""
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
    if program is None:
        raise Unmeasured("there is no nats-server")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        client_port, port = (each.getsockname()[1] for each in ports)
        for each in ports:
            each.close()
        (folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:{client_port}"\nwebsocket {{ host: "127.0.0.1", port: {port}, no_tls: true, compression: false }}\n'
        )
        command, url = [program, "-c", str(folder / "nats.conf")], f"ws://127.0.0.1:{port}/"
        yield stack.enter_context(running_peer(command, lambda line: url if READY in line else None, reads_errors=True))


@contextmanager
def socket_io() -> Generator[Server]:
    """Socket.IO on Node.js."""
    node = shutil.which("node")
    modules = INSTALLED / "node" / "node_modules"
    if node is None or not (modules / "socket.io").exists():
        raise Unmeasured("the peer Socket.IO is not installed: make bench does it, with node and npm")
    found = re.compile(r"ws://127\.0\.0\.1:\d+\S*")

    def url(line: str) -> str | None:
        match = found.search(line)
        return None if match is None else match[0]

    with running_peer([node, str(PEERS / "socket_io.js")], url, {"NODE_PATH": str(modules)}) as server:
        yield server
