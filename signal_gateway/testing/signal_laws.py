"""Laws of signals: what members say to each other arrives once, in order, where it is for, or its sender is told (DESIGN.md §7).

Where a network may lose things, only what nothing happened to is asked for.
"""

from collections import Counter, defaultdict
from typing import Any

from protocol.frame import FrameType
from signal_gateway.testing.room_facts import Change, Heard, Signal, Stay
from signal_gateway.testing.room_transcript import Findings, Law, RoomTranscript

CALM_S = 8.0
"""Seconds in which what nothing happens to has arrived: early candidates wait for `early_s`, a database that is down for a second."""
TRAVEL_S = 2.0
"""Seconds in which a message has been heard on a calm link."""


def every_signal_arrives_or_is_refused(rooms: RoomTranscript) -> Findings:
    """What is said on a calm link comes to whom it is for, when their link is calm or is back, or its sender is told; never silence."""
    heard = {(each.client_id, each.key) for each in rooms.heard}
    for signal in rooms.signals.values():
        until = signal.at + CALM_S
        holding = rooms.holding_at(signal.client_id, signal.at)
        speaks = holding is not None and holding.link == signal.link
        if signal.is_implied or signal.is_refused or not speaks or not rooms.is_calm(signal.link, signal.at, until):
            continue
        mine = rooms.stays_of(signal.client_id, signal.room_id)
        if not any(stay.at <= signal.at + TRAVEL_S and stay.ended_at >= signal.at for stay in mine):
            yield f"{_named(signal)} was said by one who was not in the room, and not refused"
        my_stay = next((stay for stay in mine if stay.covers(signal.at, until)), None)
        if signal.to is not None:
            theirs = rooms.stays_of(signal.to, signal.room_id)
            if not any(stay.at <= until and stay.ended_at >= signal.at for stay in theirs) or signal.to == signal.client_id:
                yield f"{_named(signal)} was for {signal.to}, who was not in the room, and was not refused"
                continue
        else:
            theirs = [stay for stay in rooms.stays if stay.room_id == signal.room_id and stay.client_id != signal.client_id]
        for stay in theirs:
            if my_stay is not None and (stay.client_id, signal.mark) not in heard and _must_hear(rooms, stay, my_stay, signal.at):
                yield f"{_named(signal)} never came to {stay.client_id}"


def _must_hear(rooms: RoomTranscript, stay: Stay, source: Stay, at: float) -> bool:
    """Whether nothing excuses that a member did not hear what was said at this time: its link was calm, or away and came back calm."""
    holding = rooms.holding_at(stay.client_id, at)
    if holding is not None:
        stays = holding.ended_at > at + CALM_S and stay.covers(at, at + CALM_S)
        return stays and rooms.is_calm(holding.link, at, at + CALM_S)
    back = rooms.next_holding(stay.client_id, at)
    if back is None or back.at < at + TRAVEL_S:
        return False
    until = back.at + CALM_S
    lasts = stay.covers(at, until) and source.covers(at, until) and back.ended_at > until
    return lasts and rooms.is_calm(back.link, back.at, until)


def what_is_for_all_comes_to_those_who_join(rooms: RoomTranscript) -> Findings:
    """What a room's sender has said to all: behind the answer, or where it has offered nothing to all, behind what it offers or `early_s`.

    Only until it offers anew to all, or begins anew itself.
    """
    heard = {(each.client_id, each.key) for each in rooms.heard}
    promoted_at = {(each.event.room_id, each.event.client_id): each.at for each in rooms.changes if each.event.reason == "promoted"}
    for_all = [signal for signal in rooms.signals.values() if signal.to is None and signal.kind != FrameType.SIGNAL_ANSWER]
    for signal in for_all:
        if signal.is_implied or signal.is_refused:
            continue
        mine = [stay for stay in rooms.stays_of(signal.client_id, signal.room_id) if stay.role == "sender"]
        offers = [each for each in for_all if each.client_id == signal.client_id and not each.is_candidate and each.place > signal.place]
        for stay in rooms.stays:
            until = stay.at + CALM_S
            if stay.room_id != signal.room_id or stay.at < signal.at + TRAVEL_S or any(each.at < stay.at + TRAVEL_S for each in offers):
                continue
            source = next((each for each in mine if each.covers(signal.at, until)), None)
            if source is None or promoted_at.get((source.room_id, source.client_id), 0.0) > signal.at:
                continue
            is_calm = rooms.is_calm(signal.link, signal.at, stay.at) and _is_calm_from_the_first(rooms, stay, until)
            if is_calm and (stay.client_id, signal.mark) not in heard:
                yield f"{_named(signal)} never came to {stay.client_id}, who joined later"


def _is_calm_from_the_first(rooms: RoomTranscript, stay: Stay, until: float) -> bool:
    holding = rooms.holding_at(stay.client_id, stay.at)
    begins_anew = any(stay.at < at <= until for _, at, _ in stay.admissions)
    return holding is not None and stay.ended_at > until and not begins_anew and rooms.is_calm(holding.link, stay.at, until)


def nobody_hears_a_signal_twice(rooms: RoomTranscript) -> Findings:
    """At most once, until the member begins anew by another JOIN."""
    acknowledged: Counter[tuple[int, str]] = Counter()
    times: Counter[tuple[str, str, Any]] = Counter()
    for heard in rooms.heard:
        if heard.key in (FrameType.WEBRTC_ROOM_JOIN_ACK, FrameType.WEBRTC_ROOM_CREATE_ACK):
            acknowledged[heard.link, heard.room_id] += 1
        elif heard.key in rooms.signals:
            beginning = _beginning_of(rooms, heard, acknowledged[heard.link, heard.room_id])
            times[heard.client_id, heard.key, beginning] += 1
    for (client_id, mark, _), number in times.items():
        if number > 1:
            yield f"{client_id} heard {mark} {number} times"


def _beginning_of(rooms: RoomTranscript, heard: Heard, acknowledged: int) -> int:
    """The place where the gateway let in the client who hears this: by its own link if that has been told so, else by an older one."""
    admissions = [each for stay in rooms.stays_of(heard.client_id, heard.room_id) for each in stay.admissions]
    own = [place for place, _, link in admissions if link == heard.link]
    if acknowledged:
        return own[min(acknowledged, len(own)) - 1] if own else -1
    begun = next((each.begun for each in rooms.holdings[heard.client_id] if each.link == heard.link), 0)
    return max((place for place, *_ in admissions if place < begun), default=-1)


def signals_are_for_those_who_hear_them(rooms: RoomTranscript) -> Findings:
    """Nobody hears what was said in another room, to somebody else, or by themselves; who said it is told truly."""
    for heard in rooms.heard:
        signal = rooms.signals.get(heard.key) if isinstance(heard.key, str) else None
        if signal is None:
            if isinstance(heard.key, str):
                yield f"{heard.client_id} heard at {heard.place} what nobody has said: {heard.key}"
            continue
        if heard.client_id == signal.client_id:
            yield f"{_named(signal)} came back to its sender"
        if heard.source != signal.client_id:
            yield f"{_named(signal)} is told as said by {heard.source}"
        if signal.room_id not in (None, heard.room_id) or signal.to not in (None, heard.client_id):
            yield f"{_named(signal)} was heard by {heard.client_id} in {heard.room_id}"
    for due in rooms.due:
        if not due.sits and (not isinstance(due.key, tuple) or due.key[2] != due.client_id):
            yield f"{due.client_id} was told {due.key} at {due.place}, and did not sit in the room"
        signal = rooms.signals.get(due.key) if isinstance(due.key, str) else None
        stay = next((each for each in reversed(rooms.stays_of(due.client_id, due.room_id)) if each.begun < due.place), None)
        if signal is not None and stay is not None and not _has_met(rooms, stay, signal.client_id):
            yield f"{_named(signal)} was given to {due.client_id} at {due.place}, and its sender had gone before"


def _has_met(rooms: RoomTranscript, stay: Stay, client_id: str) -> bool:
    return any(each.ended is None or each.ended > stay.begun for each in rooms.stays_of(client_id, stay.room_id))


def what_is_heard_was_due_in_that_order(rooms: RoomTranscript) -> Findings:
    """On one link a client hears what the gateway meant to tell it, in that order, and nothing more often."""
    due: dict[str, list[Any]] = defaultdict(list)
    for each in rooms.due:
        due[each.client_id].append(each)
    heard_on: dict[tuple[int, str], list[Heard]] = defaultdict(list)
    for each in rooms.heard:
        if not isinstance(each.key, FrameType):
            heard_on[each.link, each.client_id].append(each)
    for (_, client_id), all_heard in heard_on.items():
        line = iter(due[client_id])
        for heard in all_heard:
            if not any(each.key == heard.key and each.place < heard.place for each in line):
                yield f"{client_id} heard {heard.key} at {heard.place}, out of order or once too often"
                break


def signals_keep_their_order(rooms: RoomTranscript) -> Findings:
    """Of one sender's link a member hears candidates in the order in which they were said, descriptions too, and none before its own."""
    last: dict[Any, int] = {}
    acknowledged: Counter[tuple[int, str]] = Counter()
    for heard in rooms.heard:
        if isinstance(heard.key, FrameType):
            acknowledged[heard.link, heard.room_id] += heard.key != FrameType.WEBRTC_ROOM_LEAVE_ACK
        signal = rooms.signals.get(heard.key) if isinstance(heard.key, str) else None
        if signal is None:
            continue
        pair = signal.link, heard.link, heard.room_id, acknowledged[heard.link, heard.room_id]
        if last.get((*pair, signal.is_candidate), 0) >= signal.number:
            yield f"{_named(signal)} came to {heard.client_id} at {heard.place} after one that was said later"
        if not signal.is_candidate and last.get((*pair, True), 0) > signal.number:
            yield f"{_named(signal)} came to {heard.client_id} at {heard.place} after a candidate that was said behind it"
        last[*pair, signal.is_candidate] = signal.number


def candidates_follow_their_description(rooms: RoomTranscript) -> Findings:
    """A candidate is given behind an offer or answer of the same member, or after it has waited `early_s`."""
    described: set[tuple[str, str, str]] = set()
    before: dict[tuple[str, str, str], int] = {}  # what was said before this place is still to be given, if it was described by then
    forgets = [(change.place, change.event.room_id, change.event.client_id) for change in rooms.changes if _begins_or_ends(change)]
    forgets += [(stay.begun, stay.room_id, stay.client_id) for stay in rooms.stays]
    happened = sorted([*((due.place, due) for due in rooms.due), *((each[0], each) for each in forgets)], key=lambda pair: pair[0])
    for _, each in happened:
        if isinstance(each, tuple):
            forgotten = {known for known in described if known[0] == each[1] and each[2] in known[1:]}
            described -= forgotten
            before |= dict.fromkeys(forgotten, each[0])
            continue
        signal = rooms.signals.get(each.key) if isinstance(each.key, str) else None
        if signal is None:
            continue
        known = each.room_id, each.client_id, signal.client_id
        is_known = known in described or signal.place < before.get(known, 0)
        if signal.is_candidate and not is_known and each.at - signal.at < rooms.settings.early_s:
            yield f"{_named(signal)} was given to {each.client_id} at {each.place} before any description"
        described.add(known)


def _begins_or_ends(change: Change) -> bool:
    return change.event.event == "member_left" or change.event.reason == "returned"


SIGNAL_LAWS: tuple[Law, ...] = (
    every_signal_arrives_or_is_refused,
    what_is_for_all_comes_to_those_who_join,
    nobody_hears_a_signal_twice,
    signals_are_for_those_who_hear_them,
    what_is_heard_was_due_in_that_order,
    signals_keep_their_order,
    candidates_follow_their_description,
)


def _named(signal: Signal) -> str:
    return f"{signal.kind.name.lower()} {signal.mark} at {signal.place}"
