"""Everything that is measured, as data: what is served, what is asked of it, and what must be reached."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

from bench import backlog, codecs, commands, kill, rooms, round_trips, saturated, storage
from bench.bars import Bar
from bench.load import (
    Figures,
    Load,
    beside,
    heartbeats_echoed,
    heartbeats_heard,
    measure,
    measure_memory,
    phones,
    visit,
)
from bench.messages import ACK_BEGINS, CONNECT, PHONE_HEARTBEAT, PHONE_HEARTBEAT_BYTES, SMS_MESSAGE, asking, padded
from bench.servers import Server, epoll_echo, gateway, greeter, node_ws, python_peer, wire_echo
from protocol.payload import write_json

Serve = Callable[[], AbstractContextManager[Server]]

OUR_ECHO = "an echo on our wire"
GATEWAY, C_ECHO, PICOWS, WS, WEBSOCKETS, TRIO = "gateway", "C epoll echo", "picows", "Node ws", "websockets", "trio-websocket"
PEERS: dict[str, Serve] = {
    C_ECHO: epoll_echo,
    PICOWS: partial(python_peer, "picows_echo.py"),
    WS: node_ws,
    WEBSOCKETS: partial(python_peer, "websockets_echo.py"),
    TRIO: partial(python_peer, "trio_echo.py"),
}
ECHOES: dict[str, Serve] = {OUR_ECHO: wire_echo, **PEERS}
IDLE_LINKS = 10_000
KNOWN_PHONES = 2_000
BESIDE_SECONDS_MAX = 60.0
REPORTING_PHONES = 10
SILENT = 9
"""Heartbeats that ask for nothing, before one that does."""
FIRST_BEATS_S = 5.0
"""Until a thousand phones have been written down as come, and each one's first heartbeat as history, which the next 300 s go without."""
EMPTY_HANDLER = "an empty FastAPI handler"
NATS, SOCKET_IO = "NATS", "Socket.IO"
KILLS, QUICK_KILLS = 60, 3
BACKLOG_MIB = 256
"""What a hundred thousand commands that wait may take: they wait on disk."""
EACH_COMMAND_US = 1e6 / 12_000
"""12,000 commands a second, as the time that each takes."""


@dataclass(frozen=True)
class Pace:
    """How long a run takes."""

    seconds: float = 2.0
    warm_up_s: float = 0.7


@dataclass(frozen=True)
class Case:
    """One line of the table: a name, and how it is measured once. Raises Unmeasured when it cannot be."""

    name: str
    measure: Callable[[Pace], Figures]
    is_optional: bool = False
    """Whether nothing is amiss when it cannot be measured here."""
    rounds_max: int = 99
    """What only stands beside, and has no bar, need not take part in every round."""


@dataclass(frozen=True)
class Scenario:
    """Cases that are measured in turn, as many rounds as asked for or `rounds_max`, and bars over them."""

    name: str
    title: str
    cases: Sequence[Case]
    bars: Sequence[Bar] = ()
    rounds_max: int = 99
    seconds: float | None = None
    """How long a window must be for this to be seen; else as asked for."""
    warm_up_s: float = 0.0
    """How long it takes at least until what is measured goes its steady way."""


def _served(serve: Serve, load: Load, pace: Pace) -> Figures:
    with serve() as server:
        return measure(server, load, pace.seconds, pace.warm_up_s)


def _held(serve: Serve, load: Load, pace: Pace) -> Figures:
    with serve() as server:
        return measure_memory(server, load)


def _reconnected(serve: Serve, load: Load, pace: Pace) -> Figures:
    """All who come are known: they have been here before."""
    with serve() as server:
        visit(server, Load(links=load.numbers, headers=load.headers, greetings=load.greetings))
        return measure(server, load, pace.seconds, pace.warm_up_s)


def _reported_beside(reports: Load, others: Load, pace: Pace) -> Figures:
    """Reports, acknowledged once they are on disk, while others keep the server's loop busy."""
    with gateway(others.clients) as server, beside(server, others, BESIDE_SECONDS_MAX):
        figures = measure(server, reports, pace.seconds, pace.warm_up_s)
    del figures["cpu_us"]  # the others' work is in it
    return figures


def _heard(name: str, load: Load, tls: bool = False) -> Case:
    return Case(name, partial(_served, partial(gateway, load.clients, tls), load))


def _echoed(name: str, links: int, in_flight: int) -> Case:
    rounds_max = 2 if name in (WEBSOCKETS, TRIO) else 99
    return Case(name, partial(_served, ECHOES[name], heartbeats_echoed(links, in_flight)), rounds_max=rounds_max)


def _heartbeat(links: int, in_flight: int, bars: Sequence[Bar]) -> Scenario:
    cases = [_heard(GATEWAY, heartbeats_heard(links, in_flight)), *(_echoed(name, links, in_flight) for name in ECHOES)]
    title = f"HEARTBEAT and its acknowledgement, {links:,} links x {in_flight} in flight"
    return Scenario(f"heartbeat-{links}x{in_flight}", title, cases, bars)


def _tls() -> Scenario:
    load, secure = heartbeats_heard(100, 1), f"{GATEWAY}, TLS"
    cases = [_heard(GATEWAY, load), _heard(secure, load, tls=True)]
    return Scenario("tls", "HEARTBEAT over TLS, 100 links x 1 in flight", cases, [Bar(secure, against=GATEWAY, plus=4)])


def _json() -> Scenario:
    links = 1000
    silent = padded(PHONE_HEARTBEAT, PHONE_HEARTBEAT_BYTES)
    asks = padded(asking(PHONE_HEARTBEAT), PHONE_HEARTBEAT_BYTES)
    cases = [
        _heard(GATEWAY, phones(links, asks, expected=ACK_BEGINS)),
        _heard(f"{GATEWAY}, 1 of 10 asks", phones(links, *[silent] * SILENT, asks, expected=ACK_BEGINS)),
        _echoed(C_ECHO, links, 1),
    ]
    title = f"phone's heartbeat in JSON, {PHONE_HEARTBEAT_BYTES} bytes, {links:,} links x 1 in flight, each acknowledged"
    bars = [Bar(GATEWAY, against=C_ECHO, times=3)]
    return Scenario("json-heartbeat", title, cases, bars, warm_up_s=FIRST_BEATS_S)


def _connect() -> Scenario:
    storm = replace(phones(0), storm=32, sources=8)
    known = replace(storm, numbers=KNOWN_PHONES)
    cases = [
        Case(GATEWAY, partial(_reconnected, gateway, known)),
        Case(f"{GATEWAY}, first time", partial(_served, gateway, storm)),
        Case(TRIO, partial(_served, greeter, known)),
    ]
    title = "a phone connects, is known, hears its settings, and closes; 32 at a time"
    return Scenario("connect", title, cases, [Bar(GATEWAY, against=TRIO, times=1.4)])


def _idle() -> Scenario:
    plain = Load(idle=IDLE_LINKS)
    agents = replace(plain, first=CONNECT, greetings=1)
    cases = [
        Case(GATEWAY, partial(_held, partial(gateway, IDLE_LINKS), agents)),
        Case(f"{GATEWAY}, phones", partial(_held, gateway, replace(phones(0), idle=IDLE_LINKS))),
        *(Case(name, partial(_held, serve, plain)) for name, serve in ECHOES.items()),
    ]
    bars = [Bar(GATEWAY, "link_kib", limit=26)]
    return Scenario("idle", f"{IDLE_LINKS:,} authenticated links that say nothing", cases, bars, rounds_max=1)


def _crowd() -> Scenario:
    busy = heartbeats_heard(200, 1)
    crowded = f"{GATEWAY}, {IDLE_LINKS:,} idle beside"
    cases = [_heard(GATEWAY, busy), _heard(crowded, replace(busy, idle=IDLE_LINKS))]
    bars = [Bar(crowded, figure, GATEWAY, times=1.25) for figure in ("cpu_us", "p99_ms")]
    return Scenario("crowd", f"200 busy links alone, and beside {IDLE_LINKS:,} idle ones", cases, bars)


def _slow() -> Scenario:
    working = heartbeats_heard(800, 1)
    cases = [_heard(GATEWAY, working), _heard(f"{GATEWAY}, 200 never read", replace(working, deaf=200))]
    title = "800 links that work, alone and beside 200 that ask twice as often and never read"
    return Scenario("slow-readers", title, cases, rounds_max=2, seconds=12)


def _saturated() -> Scenario:
    reports = phones(REPORTING_PHONES, write_json(asking(SMS_MESSAGE)), expected=ACK_BEGINS)
    others = heartbeats_heard(1000, 1)
    title = "on disk while the loop is never idle: batches of 500 rows in this process; then reports of 10 phones to the gateway"
    cases = [
        *_inside(saturated.CASES),
        Case("reports alone", partial(_served, gateway, reports)),
        Case("reports beside 1,000 busy agents", partial(_reported_beside, reports, others)),
    ]
    return Scenario("saturated", title, cases, [Bar(saturated.SLICES, "worst_ms", limit=50)], rounds_max=1)


def _send_sms() -> Scenario:
    cases = _inside({f"SQLite, {durability}": partial(commands.send_sms, durability) for durability in storage.DURABILITIES})
    power = f"SQLite, {storage.DURABILITIES[0]}"
    bars = [Bar(power, "each_us", limit=EACH_COMMAND_US), Bar(power, "p99_ms", limit=20)]
    return Scenario("send-sms", f"SMS accepted by the service, each on disk, {commands.CALLERS} callers", cases, bars)


def _post_send_sms() -> Scenario:
    cases = [_alone(GATEWAY, round_trips.posted), _alone(EMPTY_HANDLER, partial(round_trips.posted_to_nothing, round_trips.CALLERS))]
    title = f"POST send-sms, {round_trips.CALLERS} callers on connections that stay open"
    return Scenario("post-send-sms", title, cases, [Bar(GATEWAY, against=EMPTY_HANDLER, times=1 / 0.7)])


def _sms_round_trip() -> Scenario:
    trips = round_trips.TRIP_CALLERS
    cases = [_alone(GATEWAY, round_trips.travelled), _alone(EMPTY_HANDLER, partial(round_trips.posted_to_nothing, trips))]
    title = f"POST, phone, sms_log, sent: {round_trips.PHONES} phones, {trips} callers; p99 against the p50 of an empty POST"
    return Scenario("sms-round-trip", title, cases, [Bar(GATEWAY, "trip_ms", EMPTY_HANDLER, times=10), Bar(GATEWAY, "lost", limit=0)])


def _backlog() -> Scenario:
    bars = [Bar(GATEWAY, name, limit=0) for name in ("lost", "doubled", "misplaced")]
    bars += [Bar(GATEWAY, "times_alone", limit=2, is_strict=True), Bar(GATEWAY, "grown_mib", limit=BACKLOG_MIB)]
    title = f"{backlog.COMMANDS:,} commands wait for {backlog.PHONES:,} phones, which then come at once"
    return Scenario("backlog", title, [_alone(GATEWAY, backlog.drained)], bars, rounds_max=1)


def _kill() -> Scenario:
    def measured(seconds: float) -> Figures:
        return kill.killed(KILLS if seconds >= Pace.seconds else QUICK_KILLS)

    bars = [Bar(GATEWAY, name, limit=0) for name in ("lost", "doubled", "backward", "breaches")]
    return Scenario("kill", f"SIGKILL under load, {KILLS} times", [_alone(GATEWAY, measured)], bars, rounds_max=1)


def _relay(in_flight: int, times: float) -> Scenario:
    cases = [_signalled(GATEWAY, partial(rooms.relayed, in_flight)), _signalled(NATS, partial(rooms.relayed_by_nats, in_flight))]
    title = f"a signal of {rooms.PAYLOAD_BYTES} bytes, {rooms.PAIRS} rooms of two, {in_flight} in flight each way"
    return Scenario(f"relay-{in_flight}", title, cases, [Bar(GATEWAY, against=NATS, times=times)])


def _fan_out() -> Scenario:
    peers = {NATS: rooms.fanned_out_by_nats, SOCKET_IO: rooms.fanned_out_by_socket_io}
    cases = [_signalled(GATEWAY, rooms.fanned_out), *(_signalled(name, work) for name, work in peers.items())]
    title = f"one sender's signal of {rooms.PAYLOAD_BYTES} bytes to {rooms.RECEIVERS} receivers, for each of them"
    return Scenario("fan-out", title, cases, [Bar(GATEWAY, against=name, times=1.0) for name in peers])


def _room_cycle() -> Scenario:
    one, by_turns = f"{GATEWAY}, one relay", f"{GATEWAY}, candidates by turns"
    cases = [
        _signalled(GATEWAY, partial(rooms.cycled, rooms.GATHERED_TOGETHER)),
        _signalled(by_turns, partial(rooms.cycled, 1)),
        _signalled(one, partial(rooms.relayed, 1)),
    ]
    title = f"create, join, offer, answer, {rooms.CANDIDATES} candidates, leave; beside one signal"
    return Scenario("room-cycle", title, cases, [Bar(GATEWAY, against=one, times=20)])


def _idle_rooms() -> Scenario:
    title = f"{rooms.IDLE_ROOMS:,} rooms of {rooms.IDLE_MEMBERS} in which nobody says anything, for each member"
    cases = [_signalled(GATEWAY, rooms.idle_members)]
    return Scenario("idle-rooms", title, cases, [Bar(GATEWAY, "link_kib", limit=30)], rounds_max=1)


def _signalled(name: str, work: Callable[[float, float], Figures]) -> Case:
    """A case of rooms, whose load side is a thread of this process on the other core."""
    paced = rooms.measured(work)
    return Case(name, lambda pace: paced(pace.seconds, pace.warm_up_s))


def _alone(name: str, work: Callable[[float], Figures]) -> Case:
    """A case that takes no load side but its own."""
    return Case(name, lambda pace: work(pace.seconds))


def _inside(cases: Mapping[str, Callable[[float], Figures]]) -> list[Case]:
    """Measured in this process, without a wire."""

    def paced(work: Callable[[float], Figures]) -> Callable[[Pace], Figures]:
        return lambda pace: work(pace.seconds)

    return [Case(name, paced(work), name in storage.OPTIONAL) for name, work in cases.items()]


SCENARIOS: Sequence[Scenario] = (
    _heartbeat(
        1000,
        1,
        [
            Bar(GATEWAY, against=C_ECHO, times=2.2),
            Bar(GATEWAY, against=PICOWS, times=1.4),
            Bar(GATEWAY, against=WS, times=1.0, is_strict=True),
        ],
    ),
    _heartbeat(100, 10, [Bar(GATEWAY, against=PICOWS, times=0.6)]),
    _heartbeat(100, 1, []),
    _tls(),
    _json(),
    _connect(),
    _idle(),
    _crowd(),
    _slow(),
    _saturated(),
    _send_sms(),
    _post_send_sms(),
    _sms_round_trip(),
    _backlog(),
    _kill(),
    _relay(1, 1.1),
    _relay(10, 3),
    _fan_out(),
    _room_cycle(),
    _idle_rooms(),
    Scenario("storage", "what storage bears", _inside(storage.CASES), rounds_max=1),
    Scenario("codecs", "reading and writing one message", _inside(codecs.CASES), rounds_max=1),
)
