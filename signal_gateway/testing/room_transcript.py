"""A history of rooms, read: who sat where from when to when, what members said and heard, and what the gateway meant to tell them.

Who sits in a room is read from the lines of the log and from events of the bus, in their order; `memory` of the gateway and its archive are
compared with that by the laws. Places in the history are what is compared where order matters, times where time does.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from protocol.frame import FrameType, decode_frame
from protocol.payload import read_json, read_payload
from signal_gateway.domain.events import DeviceLinked, DeviceUnlinked, RoomChanged, SignalDue
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.testing.history import GATEWAY, LOG, NETWORK, SIMULATION, Entry, History
from signal_gateway.testing.room_facts import WAS_MOVED_OUT, Change, Due, Heard, Holding, Request, Signal, Stay
from signal_gateway.testing.room_party import SIGNAL_MARK
from signal_gateway.testing.transcript import SIGNALS, Transcript
from signal_gateway.testing.world import WORLD_BEGINS_MS

REQUESTS = {
    FrameType.WEBRTC_ROOM_CREATE: FrameType.WEBRTC_ROOM_CREATE_ACK,
    FrameType.WEBRTC_ROOM_JOIN: FrameType.WEBRTC_ROOM_JOIN_ACK,
    FrameType.WEBRTC_ROOM_LEAVE: FrameType.WEBRTC_ROOM_LEAVE_ACK,
}
ANSWERS = frozenset(REQUESTS.values())


class RoomTranscript:
    """What a history tells of rooms, by subject."""

    def __init__(self, history: History, settings: RoomsSettings) -> None:
        self.transcript = Transcript(history)
        self.settings = settings
        self.stays: list[Stay] = []
        self.holdings: dict[str, list[Holding]] = defaultdict(list)
        self.signals: dict[str, Signal] = {}
        self.requests: list[Request] = []
        self.goodbyes: list[tuple[str, FrameType, int]] = []
        """Client, DISCONNECT or UNREGISTER, place."""
        self.heard: list[Heard] = []
        self.due: list[Due] = []
        self.changes: list[Change] = []
        self.rooms: dict[str, list[tuple[int, float]]] = defaultdict(list)
        """Place and time of each room's beginning; of further ones, where a crash undid its end."""
        self.ends: dict[str, list[tuple[int, float, str]]] = defaultdict(list)
        """And of its ends, with their reasons; without one, a crash took it."""
        self.crowds: list[tuple[int, str, Sequence[str]]] = []
        """The roles of all who sat in a room, each time that somebody had come or was promoted."""
        self.seats_taken: list[tuple[int, str, int]] = []
        """How many seats a client had, each time that it took one."""
        self.unlike: list[tuple[int, Any, Any]] = []
        """What the gateway's memory said, where it was not what had been told."""
        self.interventions: list[tuple[int, str, tuple[str, ...]]] = []
        """What the operator did: place, word, room and client."""
        self._sitting: dict[str, dict[str, Stay]] = {}
        self._waits_for: dict[str, list[RoomChanged]] = defaultdict(list)
        """What is told to a client whose link is lost when it is back."""
        self._asked: dict[tuple[int, bytes], Request | Signal] = {}
        self._is_new_life = False
        for place, entry in enumerate(history.entries):
            self._read(place, entry)

    # asked by the laws

    def is_calm(self, link: int, since: float, until: float) -> bool:
        """Whether nothing happened to this connection and its gateway before then."""
        connection = self.transcript.connections.get(link)
        if connection is None or (connection.troubled_at or inf) <= until:
            return False
        if connection.replaced is not None and self.transcript.entries[connection.replaced].at <= until:
            return False
        life = next((life for life in self.transcript.lives if life.ended_at >= since), None)
        return life is not None and min(life.ended_at, life.told_to_end_at or inf) > until

    def holding_at(self, client_id: str, at: float) -> Holding | None:
        """The connection that speaks for a client at this time."""
        return next((each for each in self.holdings[client_id] if each.at <= at < each.ended_at), None)

    def next_holding(self, client_id: str, at: float) -> Holding | None:
        """The first one that begins after this time."""
        return next((each for each in self.holdings[client_id] if each.at > at), None)

    def stays_of(self, client_id: str, room_id: str | None) -> list[Stay]:
        """All stays of a client in a room, in order."""
        return [stay for stay in self.stays if stay.client_id == client_id and stay.room_id == room_id]

    def is_on_disk(self, place: int, at: float) -> bool:
        """Whether what happened then must have reached the archive: not in the last moment before a crash."""
        life = self.transcript.life_at(place)
        if life is None or not life.crashed:
            return life is not None
        since = at + self.settings.archive_write_s + 0.05
        later = [number for number, *_ in self.transcript.commits if place < number < life.ended]
        return sum(self.transcript.entries[number].at > since for number in dict.fromkeys(later)) > 1

    def archived(self, table: str) -> list[Mapping[str, Any]]:
        """The rows of a table at the end."""
        return [dict(row) for rows in self.transcript.at_the_end[f"rows of {table}"] for row in rows]

    # reading

    def _read(self, place: int, entry: Entry) -> None:
        if entry.who == GATEWAY:
            self._read_gateway(place, entry)
        elif entry.who == LOG:
            self._read_line(place, entry)
        elif entry.who == NETWORK:
            if entry.what == "crash":
                self._end_links(entry.at)
        elif entry.who == SIMULATION:
            if entry.what == "rooms":
                self._read_memory(place, entry)
            elif entry.what in ("kick", "ban", "end"):
                self.interventions.append((place, entry.what, entry.about))
        elif isinstance(entry.about, bytes) and entry.what in ("sent", "heard"):
            self._read_frame(place, entry)

    def _read_gateway(self, place: int, entry: Entry) -> None:
        event = entry.about
        if entry.what == "begun":
            self._is_new_life = True
            self._waits_for.clear()
        elif entry.what == "metrics":
            self._end_links(entry.at)
        elif isinstance(event, DeviceLinked):
            current = self.holding_at(event.device_id, entry.at)
            if current is None or current.link != entry.link:
                self._end_link(event.device_id, entry.at)
                self.holdings[event.device_id].append(Holding(event.device_id, entry.link, place, entry.at))
        elif isinstance(event, DeviceUnlinked):
            self._end_link(event.device_id, entry.at)
        elif isinstance(event, RoomChanged):
            self._read_change(place, entry, event)
        elif isinstance(event, SignalDue):
            due: Any = event.signal
            signal = read_json(due.json)
            mark = _mark_of(signal["candidate"]["candidate"] if "candidate" in signal else signal["sdp"])
            for client_id in event.to:
                sits = client_id in self._sitting.get(due.room_id, {})
                self.due.append(Due(mark, client_id, place, entry.at, due.room_id, sits))

    def _read_change(self, place: int, entry: Entry, event: RoomChanged) -> None:
        waiting = self._waits_for[event.to[0]] if len(event.to) == 1 else []
        late = next((each for each in waiting if _key_of(each) == _key_of(event)), None)
        sitting = self._sitting.get(event.room_id, {})
        if late is not None:
            waiting.remove(late)
        elif not self._was_missed(entry, event):
            others = {client_id: self.holding_at(client_id, entry.at) is not None for client_id in sitting if client_id != event.client_id}
            self.changes.append(Change(place, entry.at, event, others))
            its_own = event.reason in (*WAS_MOVED_OUT, "promoted") and event.client_id not in event.to
            for client_id in (others.keys() - set(event.to)) | ({event.client_id} if its_own else set[str]()):
                waiting = self._waits_for[client_id]
                self._waits_for[client_id] = [*(each for each in waiting if not is_no_news_after(each, event)), event]
            stay = sitting.get(event.client_id)
            if stay is not None and event.reason == "returned":
                stay.admissions.append((place, entry.at, entry.link))
                self._waits_for[event.client_id].clear()
            elif stay is not None and event.reason == "promoted":
                stay.role = event.role
                self._note_crowd(place, event.room_id)
        for client_id in event.to:
            sits = client_id in sitting or (late is not None and event.event == "room_terminated")
            self.due.append(Due(_key_of(event), client_id, place, entry.at, event.room_id, sits))

    def _was_missed(self, entry: Entry, event: RoomChanged) -> bool:
        """Whether one who has just come by a newer link is told, alone, what an older one that was closing did not hear."""
        holding = self.holding_at(event.to[0], entry.at) if len(event.to) == 1 else None
        if holding is None or (holding.at, holding.link) != (entry.at, entry.link):
            return False
        told = (each.event for each in self.changes if each.place < holding.begun and event.to[0] in each.event.to)
        return any(_key_of(each) == _key_of(event) for each in told)

    def _read_line(self, place: int, entry: Entry) -> None:
        if not entry.what.startswith("room "):
            return
        told = dict(entry.about[1:])
        room_id, client_id = str(told.get("room_id")), str(told.get("client_id"))
        if entry.what in ("room opened", "room made"):
            self.rooms[room_id].append((place, entry.at))
            self._sitting[room_id] = {}
        if entry.what in ("room opened", "room entered"):
            role = str(told.get("role", "sender"))
            stay = Stay(room_id, client_id, role, place, entry.at, _ms(entry.at), admissions=[(place, entry.at, entry.link)])
            self._sit(stay, place)
        elif entry.what == "room left":
            self._rise(self._sitting.get(room_id, {}).pop(client_id, None), place, entry.at, str(told["reason"]))
        elif entry.what == "room ended":
            self.ends[room_id].append((place, entry.at, str(told["reason"])))
            for stay in self._sitting.pop(room_id, {}).values():
                self._rise(stay, place, entry.at, "room_ended")

    def _read_memory(self, place: int, entry: Entry) -> None:
        """Of the first time in a life of the gateway it is what it restored; later ones are compared."""
        told = {room_id: {client_id: (role, joined_at) for client_id, role, joined_at in seats} for room_id, seats in entry.about}
        if not self._is_new_life:
            known = {
                room_id: {stay.client_id: (stay.role, stay.joined_at) for stay in seats.values()}
                for room_id, seats in self._sitting.items()
            }
            if known != told:
                self.unlike.append((place, told, known))
            return
        self._is_new_life = False
        for room_id in self._sitting.keys() - told.keys():
            self.ends[room_id].append((place, entry.at, ""))
        before, self._sitting = self._sitting, {room_id: {} for room_id in told}
        for stay in (stay for seats in before.values() for stay in seats.values()):
            if told.get(stay.room_id, {}).get(stay.client_id, ("", 0))[1] != stay.joined_at:
                self._rise(stay, place, entry.at, "")
        for room_id, seats in told.items():
            if room_id not in self.rooms or self.ends[room_id]:
                self.rooms[room_id].append((place, entry.at))
            for client_id, (role, joined_at) in seats.items():
                known_stays = [stay for stay in self.stays_of(client_id, room_id) if stay.joined_at == joined_at]
                stay = known_stays[-1] if known_stays else Stay(room_id, client_id, role, place, entry.at, joined_at)
                if not known_stays:
                    self.stays.append(stay)
                if stay.ended is not None:
                    stay.undone.append((stay.ended, stay.ended_at))
                stay.role, stay.ended, stay.ended_at, stay.left_at, stay.final_status = role, None, inf, None, None
                self._sitting[room_id][client_id] = stay

    def _read_frame(self, place: int, entry: Entry) -> None:
        frame = decode_frame(entry.about)
        payload = read_payload(frame.payload_kind, frame.payload)
        kind = FrameType(frame.type)
        if entry.what == "sent":
            self._read_sent(place, entry, kind, frame.uuid, payload)
        else:
            self._read_heard(place, entry, kind, frame.uuid, payload)

    def _read_sent(self, place: int, entry: Entry, kind: FrameType, uuid: bytes, said: Mapping[str, Any]) -> None:
        if kind in SIGNALS:
            mark = _mark_of(said["candidate"]["candidate"] if kind == FrameType.SIGNAL_ICE_CANDIDATE else said["sdp"])
            signal = Signal(mark, kind, entry.who, entry.link, place, entry.at, said["room_id"], said.get("to"), False)
            self.signals[mark] = self._asked[entry.link, uuid] = signal
        elif kind in REQUESTS:
            request = Request(kind, entry.who, entry.link, place, entry.at, said.get("room_id"))
            self.requests.append(request)
            self._asked[entry.link, uuid] = request
            if said.get("offer_sdp") is not None:
                mark = _mark_of(said["offer_sdp"])
                kind = FrameType.SIGNAL_OFFER
                self.signals[mark] = Signal(mark, kind, entry.who, entry.link, place, entry.at, said.get("room_id"), None, True)
        elif kind in (FrameType.DISCONNECT, FrameType.UNREGISTER):
            self.goodbyes.append((entry.who, kind, place))

    def _read_heard(self, place: int, entry: Entry, kind: FrameType, uuid: bytes, said: Mapping[str, Any]) -> None:
        asked = self._asked.get((entry.link, uuid))
        if kind in ANSWERS and isinstance(asked, Request):
            asked.answered, asked.answered_at, asked.status, asked.message = place, entry.at, said["status"], said["message"]
            if asked.status == 200:
                asked.room_id = said["room_id"]
                ends = kind == FrameType.WEBRTC_ROOM_LEAVE_ACK
                self.heard.append(Heard(kind, entry.who, entry.link, place, entry.at, said["room_id"], ends=ends))
        elif kind == FrameType.ERROR and isinstance(asked, Signal):
            asked.is_refused = True
        elif kind == FrameType.ROOM_EVENT:
            event = RoomChanged(said["room_id"], said["event"], said["client_id"], said["role"], said.get("reason"), ())
            ends = event.event == "room_terminated" or (event.event == "member_left" and event.client_id == entry.who)
            self.heard.append(Heard(_key_of(event), entry.who, entry.link, place, entry.at, event.room_id, ends=ends))
        elif kind in SIGNALS:
            mark = _mark_of(said["candidate"]["candidate"] if kind == FrameType.SIGNAL_ICE_CANDIDATE else said["sdp"])
            self.heard.append(Heard(mark, entry.who, entry.link, place, entry.at, said["room_id"], said.get("from")))

    def _sit(self, stay: Stay, place: int) -> None:
        self.stays.append(stay)
        self._sitting.setdefault(stay.room_id, {})[stay.client_id] = stay
        self._note_crowd(place, stay.room_id)
        self.seats_taken.append((place, stay.client_id, sum(stay.client_id in seats for seats in self._sitting.values())))

    def _note_crowd(self, place: int, room_id: str) -> None:
        self.crowds.append((place, room_id, [stay.role for stay in self._sitting[room_id].values()]))

    def _rise(self, stay: Stay | None, place: int, at: float, final_status: str) -> None:
        if stay is not None:
            stay.ended, stay.ended_at, stay.left_at, stay.final_status = place, at, _ms(at), final_status

    def _end_link(self, client_id: str, at: float) -> None:
        current = self.holding_at(client_id, at)
        if current is not None:
            current.ended_at = at

    def _end_links(self, at: float) -> None:
        for client_id in self.holdings:
            self._end_link(client_id, at)


Findings = Iterator[str]
Law = Callable[[RoomTranscript], Findings]


def is_no_news_after(older: RoomChanged, newer: RoomChanged) -> bool:
    """Whether one who was away need not hear the older of two events any more: of a client that has left since, or has come once more."""
    if (older.room_id, older.client_id) != (newer.room_id, newer.client_id):
        return False
    return newer.event == "member_left" or (older.event, older.reason) == (newer.event, newer.reason)


def _key_of(event: RoomChanged) -> tuple[Any, ...]:
    return event.room_id, event.event, event.client_id, event.role, event.reason


def _mark_of(text: str) -> str:
    found = SIGNAL_MARK.search(text)
    return text if found is None else found[0]


def _ms(at: float) -> int:
    return WORLD_BEGINS_MS + round(at * 1000)
