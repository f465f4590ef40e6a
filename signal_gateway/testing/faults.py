"""A network in memory, as bad as it is asked to be: bytes come late, in pieces, or not at all; connections are cut, reset, or half open.

Two bounded pipes make a connection. Every write draws its fate from the seed. Works on a virtual clock, without tasks or threads of its
own: a reader that waits for bytes under way sleeps until they arrive.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from operator import index
from random import Random
from typing import Literal

import trio

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How bad a network is. Chances are for each write, in either direction; what is left of a write that is struck comes after the fault.

    The default is a perfect network.
    """

    delay_s: Range = (0.0, 0.0)
    """Seconds that bytes travel. They never overtake each other."""
    split_chance: float = 0.0
    """That a read gives only a piece of what has arrived. 1 and `piece_bytes` (1, 1): every byte alone."""
    piece_bytes: tuple[int, int] = (1, 16)
    """Bytes of such a piece."""
    stall_chance: float = 0.0
    """That the bytes come to a stop somewhere in this write, with all that is behind them."""
    stall_s: Range = (1.0, 30.0)
    """For so long. (inf, inf) = for ever."""
    cut_chance: float = 0.0
    """That the connection ends in this write: both sides read what had arrived, and then its end."""
    reset_chance: float = 0.0
    """That it breaks in this write: both sides get BrokenResourceError, and what was under way is lost."""
    vanish_chance: float = 0.0
    """That from this write on nothing arrives any more on either side, and nobody is told: writes go into nothing, reads wait."""
    notice_s: Range = (inf, inf)
    """Seconds after which a system notices that its peer has vanished, or a stall is for ever: it breaks the connection. inf = never."""
    buffer_bytes: int = 65_536
    """Bytes that may be under way or unread in one direction; a writer waits for room beyond it."""

    @property
    def fault_chance(self) -> float:
        """That anything but a delay happens to a write."""
        return self.stall_chance + self.cut_chance + self.reset_chance + self.vanish_chance


PERFECT = FaultPlan()
Fault = Literal["cut", "reset", "vanish"]
Tell = Callable[[int, str], None]
"""Hears the number of a connection, and what befell it: `stall` or a Fault."""


class Network:
    """All connections of a world, or of several that follow each other. `plan` may be changed: the next write goes by the new one."""

    def __init__(self, plan: FaultPlan = PERFECT, random: Random | None = None, tell: Tell | None = None) -> None:
        self.plan = plan
        self.connections_made = 0
        self._random = random or Random(0)
        self._tell = tell
        self._open: dict[int, _Connection] = {}

    def connect(self) -> tuple["FaultyStream", "FaultyStream"]:
        """Both ends of a new connection."""
        self.connections_made += 1
        number = self.connections_made
        connection = self._open[number] = _Connection(self, Random(self._random.random()), number)
        there, back = connection.pipes
        return FaultyStream(connection, back, there), FaultyStream(connection, there, back)

    def strike(self, number: int, fault: Fault) -> None:
        """Do to one connection now what chance might do to a write."""
        self._open[number].strike(fault)

    def strike_all(self, fault: Fault) -> None:
        """The same to every open connection, as when the machine at the other end loses its power."""
        for connection in list(self._open.values()):
            connection.strike(fault)

    def tell(self, number: int, what: str) -> None:
        """Something befell a connection."""
        if self._tell is not None:
            self._tell(number, what)

    def forget(self, number: int) -> None:
        """Both ends of a connection are closed."""
        self._open.pop(number, None)


class _Connection:
    """What both directions share: chance, and the faults that strike both."""

    def __init__(self, network: Network, random: Random, number: int) -> None:
        self.network = network
        self.random = random
        self.number = number
        self.pipes = (_Pipe(self), _Pipe(self))
        self.is_cut = False
        self.has_vanished = False
        self.breaks_at = inf
        """When it is, or was, broken."""
        self.ends_open = 2

    def strike(self, fault: Fault) -> None:
        self.network.tell(self.number, fault)
        if fault == "cut":
            self.is_cut = True
        elif fault == "vanish":
            self.has_vanished = True
            self.breaks_at = trio.current_time() + draw(self.random, self.network.plan.notice_s)
        else:
            self.breaks_at = trio.current_time()
        for pipe in self.pipes:
            if fault == "reset":
                pipe.drop()
            pipe.wake()

    def end_closed(self) -> None:
        self.ends_open -= 1
        if not self.ends_open:
            self.network.forget(self.number)


class _Pipe:
    """One direction: bytes between one writer and one reader."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._chunks: deque[tuple[float, memoryview]] = deque()  # when they arrive
        self._bytes = 0
        self._arrives_at = -inf  # of the newest chunk
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()
        self.writer_closed = False
        self.reader_closed = False

    # the writer's side

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        await self.wait_for_room()
        left = memoryview(bytes(data))
        while left:
            await self.wait_for_room()
            room = self._connection.network.plan.buffer_bytes - self._bytes
            self._put(left[:room])
            left = left[room:]

    async def wait_for_room(self) -> None:
        while True:
            connection = self._connection
            if self.writer_closed:
                raise trio.ClosedResourceError
            if trio.current_time() >= connection.breaks_at:
                raise trio.BrokenResourceError("the connection was reset")
            if not connection.has_vanished and (self.reader_closed or connection.is_cut):
                raise trio.BrokenResourceError("the peer has closed the connection")
            if connection.has_vanished or self._bytes < connection.network.plan.buffer_bytes:
                return
            with trio.move_on_at(connection.breaks_at):
                await self._writers.park()

    def _put(self, data: memoryview) -> None:
        connection = self._connection
        if connection.has_vanished:
            return
        plan, random = connection.network.plan, connection.random
        fault_chance = plan.fault_chance
        if not fault_chance or (drawn := random.random()) >= fault_chance:
            self._send(data, draw(random, plan.delay_s))
            return
        place = random.randrange(len(data) + 1)
        self._send(data[:place], draw(random, plan.delay_s))
        if (drawn := drawn - plan.stall_chance) < 0:
            connection.network.tell(connection.number, "stall")
            stall_s = draw(random, plan.stall_s)
            self._send(data[place:], stall_s)
            if stall_s == inf:
                connection.breaks_at = min(connection.breaks_at, trio.current_time() + draw(random, plan.notice_s))
        elif (drawn := drawn - plan.cut_chance) < 0:
            connection.strike("cut")
        else:
            connection.strike("reset" if drawn < plan.reset_chance else "vanish")

    def _send(self, data: memoryview, travels_s: float) -> None:
        if data:
            self._arrives_at = max(self._arrives_at, trio.current_time() + travels_s)
            self._chunks.append((self._arrives_at, data))
            self._bytes += len(data)
            self._readers.unpark_all()

    def close_writer(self) -> None:
        self.writer_closed = True
        self._writers.unpark_all()
        if not self._connection.has_vanished:
            self._readers.unpark_all()

    # the reader's side

    async def read(self, max_bytes: int | None) -> bytes:
        has_waited = False
        while True:
            connection, now = self._connection, trio.current_time()
            arrives_at = self._chunks[0][0] if self._chunks else inf
            is_over = self.reader_closed or now >= connection.breaks_at or self._is_at_end()
            if not is_over and now < arrives_at:
                await self._wait_until(min(arrives_at, connection.breaks_at))
            elif not has_waited:
                await trio.lowlevel.checkpoint()
            elif self.reader_closed:
                raise trio.ClosedResourceError
            elif now >= connection.breaks_at:
                raise trio.BrokenResourceError("the connection was reset")
            else:
                return self._take(max_bytes, now)
            has_waited = True

    async def _wait_until(self, at: float) -> None:
        """Until something new is there to read, or something under way arrives."""
        if at == inf:
            await self._readers.park()
        else:
            with trio.move_on_at(at):
                await self._readers.park()

    def _is_at_end(self) -> bool:
        connection = self._connection
        return not self._chunks and not connection.has_vanished and (self.writer_closed or connection.is_cut)

    def _take(self, max_bytes: int | None, now: float) -> bytes:
        plan, random = self._connection.network.plan, self._connection.random
        room = self._bytes if max_bytes is None else max_bytes
        if plan.split_chance and random.random() < plan.split_chance:
            room = min(room, random.randint(*plan.piece_bytes))
        taken: list[memoryview] = []
        while room and self._chunks and self._chunks[0][0] <= now:
            arrived_at, chunk = self._chunks.popleft()
            if len(chunk) > room:
                self._chunks.appendleft((arrived_at, chunk[room:]))
            taken.append(chunk[:room])
            room -= len(taken[-1])
        data = b"".join(taken)
        self._bytes -= len(data)
        self._writers.unpark_all()
        return data

    def close_reader(self) -> None:
        self.reader_closed = True
        self.drop()

    def drop(self) -> None:
        """What is under way is lost."""
        self._chunks.clear()
        self._bytes = 0
        self.wake()

    def wake(self) -> None:
        """Whoever waits here looks again."""
        self._readers.unpark_all()
        self._writers.unpark_all()


class FaultyStream(trio.abc.HalfCloseableStream):
    """One end of a connection of a Network."""

    def __init__(self, connection: _Connection, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.number = connection.number
        """Of the connection: the first one of its network is 1."""
        self._connection = connection
        self._incoming = incoming
        self._outgoing = outgoing
        self._is_sending = self._is_receiving = False
        self._is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Returns when there was room for all of it, not when it has arrived."""
        self._begin_sending()
        try:
            await self._outgoing.write(data)
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for one byte."""
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            await self._outgoing.wait_for_room()
        finally:
            self._is_sending = False

    async def send_eof(self) -> None:
        """Nothing more comes from this end; it still reads."""
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            if self._is_closed:
                raise trio.ClosedResourceError
            self._outgoing.close_writer()
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some of what has arrived; b"" at the end."""
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._is_receiving:
            raise trio.BusyResourceError("another task is reading this stream")
        self._is_receiving = True
        try:
            return await self._incoming.read(max_bytes)
        finally:
            self._is_receiving = False

    async def aclose(self) -> None:
        """Close both directions. What was sent before still arrives; a peer that has vanished is not told."""
        if not self._is_closed:
            self._is_closed = True
            self._outgoing.close_writer()
            self._incoming.close_reader()
            self._connection.end_closed()
        await trio.lowlevel.checkpoint()

    def _begin_sending(self) -> None:
        if self._is_sending:
            raise trio.BusyResourceError("another task is writing to this stream")
        self._is_sending = True


def draw(random: Random, between: Range) -> float:
    """A number of this range; its bounds may be infinite, and then are equal."""
    low, high = between
    return low if low == high else random.uniform(low, high)
