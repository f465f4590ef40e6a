"""A history, read: who asked what on which connection and what was answered, which link spoke for a device, what reached the disk.

Places in the history are what is compared, not times: two things that happen at the same time still happen one after the other.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocol.frame import FrameType, decode_frame
from protocol.payload import read_payload
from signal_gateway.domain.events import DeviceLinked
from signal_gateway.testing.handset import Effect
from signal_gateway.testing.history import DATABASE, EFFECT, GATEWAY, LOG, NETWORK, SIMULATION, Entry, History

MARK = re.compile(r"r:[\w.-]+/\d+;")
"""The text by which a simulated report is known again, wherever it turns up."""
_MARK_BYTES = re.compile(MARK.pattern.encode())
SIGNALS = frozenset({FrameType.SIGNAL_OFFER, FrameType.SIGNAL_ANSWER, FrameType.SIGNAL_ICE_CANDIDATE})
_MAY_OFFER = frozenset({FrameType.WEBRTC_ROOM_CREATE, FrameType.WEBRTC_ROOM_JOIN})
"""Two questions in one, where they bring an offer: it may be refused although they are let in."""
_UNASKED = SIGNALS | {FrameType.DISCONNECT, FrameType.ROOM_EVENT}
_HAVE_NO_ANSWER = frozenset({FrameType.DISCONNECT})
OK = 200


@dataclass(slots=True)
class Question:
    """Something that a device said and wants an answer to."""

    place: int
    at: float
    name: str
    """The frame's name in lower case, or the type of the JSON message."""
    mark: str | None
    """Of a report."""
    client_id: str
    answers: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Place and status of each answer; there should be one."""
    times: int = 1
    """How often it was asked on this connection, under the same key: so often it may be answered."""
    wants_answer: bool = True
    """A signal is answered only where it is refused."""

    @property
    def acknowledged(self) -> int | None:
        """The place of the answer that says yes."""
        return next((place for place, status in self.answers if status == OK), None)

    @property
    def changed_nothing(self) -> bool:
        """Whether it was refused as such. A fault of the gateway's leaves open whether it was done."""
        return bool(self.answers) and all(400 <= status < 500 for _, status in self.answers)


@dataclass(slots=True)
class Connection:
    """One connection, as its device saw it, and as the gateway did."""

    number: int
    who: str
    questions: dict[Any, Question] = field(default_factory=dict[Any, Question])
    unasked: list[int] = field(default_factory=list[int])
    """Places of answers that belong to no question."""
    troubled_at: float | None = None
    """When the network first did something to it, or its device left it."""
    replaced: int | None = None
    """The place where another link began to speak for its device."""


@dataclass(slots=True)
class Life:
    """The gateway from one start to its end, or crash."""

    begun: int
    ended: int
    ended_at: float
    crashed: bool = False
    told_to_end_at: float | None = None
    metrics: Sequence[tuple[Any, ...]] = ()
    """Name, labels, value; of a life that ended in good order."""


class Transcript:
    """What a history tells, by subject."""

    def __init__(self, history: History) -> None:
        self.entries = history.entries
        self.connections: dict[int, Connection] = {}
        self.lives: list[Life] = []
        self.events: list[tuple[int, Entry]] = []
        """Of the bus."""
        self.lines: list[tuple[int, Entry]] = []
        """Of the log."""
        self.commits: list[tuple[int, str]] = []
        """Place and statement, its values in it, of each write that held."""
        self.committed: defaultdict[str, list[int]] = defaultdict(list)
        """Mark of a report: the places where it was committed, once for each row."""
        self.times_sent: Counter[str] = Counter()
        """Mark of a report: how often a device sent it."""
        self.effects: list[tuple[int, Effect]] = []
        """Place, and what a command did there."""
        self.messages_sent = self.messages_heard = 0
        self.at_the_end: dict[str, list[Any]] = defaultdict(list)
        """What the simulation saw: `truth`, `connections left`, `tasks left`, `rows of <table>`."""
        self._speaks: dict[str, int] = {}
        for place, entry in enumerate(self.entries):
            self._read(place, entry)

    def questions(self) -> Iterator[tuple[Connection, Question]]:
        """Every question of every connection, in order of the connections."""
        for connection in self.connections.values():
            for question in connection.questions.values():
                yield connection, question

    def life_at(self, place: int) -> Life | None:
        """The life of the gateway in which this happened."""
        return next((life for life in self.lives if life.begun <= place <= life.ended), None)

    def _read(self, place: int, entry: Entry) -> None:
        if entry.who == GATEWAY:
            self._read_gateway(place, entry)
        elif entry.who == LOG:
            self.lines.append((place, entry))
        elif entry.who == DATABASE:
            if entry.what == "committed":
                self._read_commit(place, entry.about)
        elif entry.who == NETWORK:
            self._read_network(place, entry)
        elif entry.who == SIMULATION:
            self.at_the_end[entry.what].append(entry.about)
        elif entry.what == EFFECT:
            self.effects.append((place, entry.about))
        else:
            self._read_device(place, entry)

    def _read_gateway(self, place: int, entry: Entry) -> None:
        if entry.what == "begun":
            self.lives.append(Life(place, len(self.entries), self.entries[-1].at))
            self._speaks.clear()
        elif entry.what == "ending":
            self.lives[-1].told_to_end_at = entry.at
        elif entry.what == "metrics":
            life = self.lives[-1]
            life.ended, life.ended_at, life.metrics = place, entry.at, entry.about
        else:
            self.events.append((place, entry))
            if isinstance(entry.about, DeviceLinked):
                before = self._speaks.get(entry.about.device_id)
                self._speaks[entry.about.device_id] = entry.link
                if before is not None and before != entry.link and before in self.connections:
                    self.connections[before].replaced = place

    def _read_network(self, place: int, entry: Entry) -> None:
        if entry.what == "crash":
            life = self.lives[-1]
            life.ended, life.ended_at, life.crashed = place, entry.at, True
        elif (connection := self.connections.get(entry.link)) is not None and connection.troubled_at is None:
            connection.troubled_at = entry.at

    def _read_commit(self, place: int, about: Sequence[Any]) -> None:
        _, *writes = about
        for statement in writes:
            self.commits.append((place, statement))
            if statement.startswith("INSERT INTO reports"):
                for mark in MARK.findall(statement):
                    self.committed[mark].append(place)

    def _read_device(self, place: int, entry: Entry) -> None:
        connection = self.connections.get(entry.link)
        if connection is None:
            connection = self.connections[entry.link] = Connection(entry.link, entry.who)
        if entry.what == "sent":
            self.messages_sent += 1
            self._read_sent(connection, place, entry)
        elif entry.what == "heard":
            self.messages_heard += 1
            self._read_heard(connection, place, entry.about)
        elif entry.what in ("closed", "ended") and connection.troubled_at is None:
            connection.troubled_at = entry.at

    def _read_sent(self, connection: Connection, place: int, entry: Entry) -> None:
        message: bytes | str = entry.about
        mark = _mark_of(message)
        if mark is not None:
            self.times_sent[mark] += 1
        wants_answer, times = True, 1
        if isinstance(message, str):
            said = json.loads(message)
            key, name = said.get("request_id"), str(said["type"])
        else:
            frame = decode_frame(message)
            key = None if frame.type in _HAVE_NO_ANSWER else frame.uuid
            name = FrameType(frame.type).name.lower()
            wants_answer = frame.type not in SIGNALS
            if frame.type in _MAY_OFFER and read_payload(frame.payload_kind, frame.payload).get("offer_sdp") is not None:
                times = 2
        if key is not None and (again := connection.questions.get(key)) is not None:
            again.times += 1
        elif key is not None:
            connection.questions[key] = Question(place, entry.at, name, mark, entry.who, times=times, wants_answer=wants_answer)

    def _read_heard(self, connection: Connection, place: int, message: bytes | str) -> None:
        key, status = _answer_of(message)
        if key is None:
            return
        question = connection.questions.get(key)
        if question is None:
            connection.unasked.append(place)
        else:
            question.answers.append((place, status))


def _mark_of(message: bytes | str) -> str | None:
    found = MARK.search(message) if isinstance(message, str) else _MARK_BYTES.search(message)
    if found is None:
        return None
    mark = found[0]
    return mark if isinstance(mark, str) else mark.decode()


def _answer_of(message: bytes | str) -> tuple[Any, int]:
    """The key of the question that is answered, and the status; no key where nothing was asked."""
    if isinstance(message, str):
        heard = json.loads(message)
        if heard["type"] == "ack":
            return heard["request_id"], OK
        data = heard.get("data", {})
        return (data.get("request_id"), int(data.get("status", 0))) if heard["type"] == "error" else (None, 0)
    frame = decode_frame(message)
    if frame.type in _UNASKED:
        return None, 0
    payload = read_payload(frame.payload_kind, frame.payload)
    return (None if frame.uuid == bytes(16) else frame.uuid), int(payload.get("status", OK))
