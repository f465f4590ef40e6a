"""What must hold of rooms in every history, whatever went wrong in it (CONTRACT.md §7; DESIGN.md §7): each law a function.

    for finding in check_rooms(history, settings):
        print(finding)

They know what is promised, and nothing of how it is kept. Those of signals are in `testing.signal_laws`.
"""

from collections import Counter, defaultdict
from typing import Any

from protocol.frame import FrameType
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.storage.rooms import OPEN_STATES
from signal_gateway.testing.history import History
from signal_gateway.testing.room_facts import WAS_MOVED_OUT, Request, Stay
from signal_gateway.testing.room_transcript import Findings, Law, RoomTranscript, is_no_news_after
from signal_gateway.testing.signal_laws import CALM_S, SIGNAL_LAWS

SWEEP_S = 1.5
"""Seconds by which the end of a grace may come late."""
CALLED_OUT = {"kicked": "kick", "banned": "ban"}


def check_rooms(history: History, settings: RoomsSettings) -> list[str]:
    """Everything that is wrong with rooms in this history; nothing when all is well."""
    transcript = RoomTranscript(history, settings)
    return [finding for law in LAWS for finding in law(transcript)]


def who_is_banned_stays_out(rooms: RoomTranscript) -> Findings:
    """For the rest of the room's life; a crash may lose a ban of the last moment."""
    for place, what, about in rooms.interventions:
        if what != "ban":
            continue
        room_id, client_id = about
        life = rooms.transcript.life_at(place)
        until = len(rooms.transcript.entries) if life is None or rooms.is_on_disk(place, rooms.transcript.entries[place].at) else life.ended
        for stay in rooms.stays_of(client_id, room_id):
            for admitted, _, _ in stay.admissions:
                if place < admitted < until:
                    yield f"{client_id} was banned from {room_id} at {place} and let in at {admitted}"


def a_room_has_one_sender_and_no_more_than_it_may(rooms: RoomTranscript) -> Findings:
    """One sender, `max_receivers` receivers; and nobody sits in more rooms than `per_client_max`."""
    for place, room_id, roles in rooms.crowds:
        count = Counter(roles)
        if count["sender"] > 1:
            yield f"the room {room_id} has {count['sender']} senders at {place}"
        if count["receiver"] > rooms.settings.max_receivers:
            yield f"the room {room_id} has {count['receiver']} receivers at {place}"
    for place, client_id, seats in rooms.seats_taken:
        if seats > rooms.settings.per_client_max:
            yield f"{client_id} sits in {seats} rooms at {place}"


def a_seat_outlives_its_link_for_the_grace(rooms: RoomTranscript) -> Findings:
    """And no longer; after a restart of the gateway for `restart_grace_s`."""
    settings = rooms.settings
    for stay in rooms.stays:
        for life in rooms.transcript.lives:
            begun_at, ended_at = rooms.transcript.entries[life.begun].at, min(life.ended_at, life.told_to_end_at or life.ended_at)
            ends = [at for place, at in stay.undone if life.begun < place <= life.ended]
            since, until = max(stay.at, begun_at), min(stay.ended_at, ended_at, *ends)
            if since > until:
                continue
            is_restored = stay.at < begun_at
            links = [each for each in rooms.holdings[stay.client_id] if each.ended_at > since and each.at <= until]
            lost_at = since
            for link in [*links, None]:
                grace_s = settings.restart_grace_s if is_restored and lost_at == begun_at else settings.departure_grace_s
                back_at = until if link is None else link.at
                if back_at - lost_at > grace_s + SWEEP_S:
                    yield f"{_sat(stay)} kept the seat for {back_at - lost_at:.1f} s without a link"
                if link is None and stay.ended_at <= until and stay.final_status == "disconnected" and until - lost_at < grace_s:
                    yield f"{_sat(stay)} lost the seat at {stay.ended} after {until - lost_at:.1f} s without a link"
                lost_at = max(since, link.ended_at) if link is not None else lost_at


def nobody_leaves_and_nothing_ends_without_a_cause(rooms: RoomTranscript) -> Findings:
    """A stay ends by what its reason says, or with its room; and so does a room.

    Members leave by their own word, by the loss of their link, or by the operator's doing.
    """
    left: Counter[tuple[str, str]] = Counter()
    for change in rooms.changes:
        event, reason = change.event, change.event.reason or ""
        if event.event != "member_left":
            continue
        asked = [each for each in rooms.requests if each.client_id == event.client_id and each.place < change.place]
        said = {kind for client_id, kind, place in rooms.goodbyes if client_id == event.client_id and place < change.place}
        left[event.client_id, event.room_id] += reason == "voluntary_disconnect"
        leaves = sum(each.kind == FrameType.WEBRTC_ROOM_LEAVE and each.room_id == event.room_id for each in asked)
        causes = {
            "voluntary_disconnect": leaves >= left[event.client_id, event.room_id],
            "disconnected": FrameType.DISCONNECT in said,
            "unregistered": FrameType.UNREGISTER in said,
            "moved": any(each.kind != FrameType.WEBRTC_ROOM_LEAVE and each.room_id != event.room_id for each in asked),
            "link_lost": rooms.holding_at(event.client_id, change.at) is None,
        }
        if reason in CALLED_OUT:
            causes[reason] = _was_told(rooms, CALLED_OUT[reason], (event.room_id, event.client_id), change.place)
        if not causes.get(reason):
            yield f"{event.client_id} left {event.room_id} at {change.place} without a cause: {reason}"
    for room_id, place, at, reason in [(room_id, *end) for room_id, ends in rooms.ends.items() for end in ends if end[2]]:
        begun_at = rooms.rooms[room_id][0][1] if rooms.rooms[room_id] else at
        sitting = [stay for stay in rooms.stays if stay.room_id == room_id and stay.ended == place]
        ended = {
            "all_left": not sitting,
            "sender_left": not any(stay.role == "sender" for stay in sitting),
            "operator": _was_told(rooms, "end", (room_id,), place),
            "timeout": at - begun_at >= rooms.settings.life_s - SWEEP_S,
            "empty_timeout": not sitting and at - begun_at >= rooms.settings.empty_s,
            "server_restart": not sitting,
        }
        if not ended.get(reason):
            yield f"the room {room_id} ended at {place} without a cause: {reason}"


def _was_told(rooms: RoomTranscript, what: str, about: tuple[str, ...], place: int) -> bool:
    return any(each[1:] == (what, about) and each[0] < place for each in rooms.interventions)


def members_are_told_who_comes_and_goes(rooms: RoomTranscript) -> Findings:
    """Whoever sits there and has a link is told of all others, and hears it if the link is calm."""
    heard = {(each.client_id, each.key, each.link) for each in rooms.heard}
    for change in rooms.changes:
        event = change.event
        key = event.room_id, event.event, event.client_id, event.role, event.reason
        its_own = {event.client_id} if event.reason in WAS_MOVED_OUT or event.reason == "promoted" else set[str]()
        for client_id in sorted(set(event.to) - change.others.keys() - its_own):
            yield f"{client_id} was told at {change.place} of {event.event} in {event.room_id}, and did not sit there"
        for client_id, is_linked in change.others.items():
            if is_linked and client_id not in event.to:
                yield f"{client_id} was not told at {change.place} of {event.event} in {event.room_id}"
        for client_id in event.to:
            holding = rooms.holding_at(client_id, change.at)
            until = change.at + CALM_S
            if holding is None or holding.ended_at <= until or not rooms.is_calm(holding.link, change.at, until):
                continue
            if (client_id, key, holding.link) not in heard:
                yield f"{client_id} never heard of {event.event} in {event.room_id} at {change.place}"


def who_comes_back_is_told_who_came_and_went(rooms: RoomTranscript) -> Findings:
    """Whoever kept the seat while its link was lost: of each client what is still so, if the same gateway knows of it."""
    heard = {(each.client_id, each.key, each.link) for each in rooms.heard}
    for change in rooms.changes:
        event = change.event
        for client_id in sorted(client_id for client_id, is_linked in change.others.items() if not is_linked):
            back = rooms.next_holding(client_id, change.at)
            if (
                back is None
                or event.event == "room_terminated"
                or rooms.transcript.life_at(back.begun) is not rooms.transcript.life_at(change.place)
            ):
                continue
            until = back.at + CALM_S
            stays = any(stay.covers(change.at, until) for stay in rooms.stays_of(client_id, event.room_id))
            if not stays or back.ended_at <= until or not rooms.is_calm(back.link, back.at, until):
                continue
            if any(change.place < each.place < back.begun and is_no_news_after(event, each.event) for each in rooms.changes):
                continue
            key = event.room_id, event.event, event.client_id, event.role, event.reason
            if (client_id, key, back.link) not in heard:
                yield f"{client_id} came back at {back.begun} and never heard of {event.event} of {event.client_id} at {change.place}"


def who_lost_a_seat_without_a_link_is_told_when_it_comes_back(rooms: RoomTranscript) -> Findings:
    """That the room is over, or that it was taken out: if it comes back within the grace, and the same gateway knows of it."""
    heard = {(each.client_id, each.key, each.link) for each in rooms.heard}
    for change in rooms.changes:
        event = change.event
        absent = {client_id for client_id, is_linked in change.others.items() if event.event == "room_terminated" and not is_linked}
        if event.reason in WAS_MOVED_OUT and event.client_id not in event.to:
            absent.add(event.client_id)
        for client_id in sorted(absent):
            lost_at = max((each.ended_at for each in rooms.holdings[client_id] if each.ended_at <= change.at), default=change.at)
            back = rooms.next_holding(client_id, change.at)
            if (
                back is None
                or back.at >= lost_at + rooms.settings.departure_grace_s
                or not rooms.is_calm(back.link, back.at, back.at + CALM_S)
            ):
                continue
            if rooms.transcript.life_at(back.begun) is not rooms.transcript.life_at(change.place) or back.ended_at <= back.at + CALM_S:
                continue
            key = event.room_id, event.event, event.client_id, event.role, event.reason
            if (client_id, key, back.link) not in heard:
                yield f"{client_id} came back at {back.begun} and never heard of {event.event} in {event.room_id} at {change.place}"


def nothing_comes_after_the_end(rooms: RoomTranscript) -> Findings:
    """After `room_terminated`, one's own leaving or being taken out a link hears nothing of the room, until it is let in again."""
    over: set[tuple[int, str]] = set()
    for heard in rooms.heard:
        room = heard.link, heard.room_id
        if heard.key in (FrameType.WEBRTC_ROOM_JOIN_ACK, FrameType.WEBRTC_ROOM_CREATE_ACK):
            over.discard(room)
        elif room in over:
            yield f"{heard.client_id} heard {heard.key} at {heard.place}, and had no more to do with the room"
        elif heard.ends:
            over.add(room)


def nobody_is_stuck(rooms: RoomTranscript) -> Findings:
    """Who has a seat that the link does not know of may leave it, take it again, or sit elsewhere; and refusals are true."""
    let_in: set[tuple[int, str]] = set()
    for request in sorted((each for each in rooms.requests if each.answered is not None), key=lambda each: each.answered or 0):
        link = request.link, request.client_id
        if request.status == 200 and request.kind != FrameType.WEBRTC_ROOM_LEAVE:
            let_in.add(link)
        elif request.status == 409 and request.message == "Client already in room" and link not in let_in:
            yield f"{_asked(request)} was refused for a seat that this link was never told of"
        elif request.status == 404 and _was_there(rooms, request):
            yield f"{_asked(request)} found no room, and there was one"
        elif request.status == 403 and not _was_told(rooms, "ban", (request.room_id or "", request.client_id), request.answered or 0):
            yield f"{_asked(request)} was refused, and nobody had banned {request.client_id}"
        elif request.status >= 500:
            yield f"{_asked(request)} was answered {request.status}"


def _was_there(rooms: RoomTranscript, request: Request) -> bool:
    """Whether the room was open, and for LEAVE the client in it, from the question to the answer."""
    answered = request.answered or 0
    if request.kind == FrameType.WEBRTC_ROOM_LEAVE:
        stays = rooms.stays_of(request.client_id, request.room_id)
        return any(stay.begun < request.place and (stay.ended is None or stay.ended > answered) and not stay.undone for stay in stays)
    begins, ends = rooms.rooms[request.room_id or ""], rooms.ends[request.room_id or ""]
    begun = max((place for place, _ in begins if place < request.place), default=None)
    return begun is not None and not any(begun < place < answered for place, *_ in ends)


def memory_is_as_told(rooms: RoomTranscript) -> Findings:
    """Who sits where is what lines and events of before say."""
    for place, memory, told in rooms.unlike:
        yield f"at {place} the gateway has {memory}, and has told {told}"


def the_archive_tells_what_was(rooms: RoomTranscript) -> Findings:
    """A row for each room and each stay, with one end each, as it was; only a crash may lose the last moment."""
    rows: dict[Any, list[Any]] = defaultdict(list)
    for row in rooms.archived("room_members"):
        rows[row["room_id"], row["client_id"], row["joined_at"]].append((row["left_at"], row["final_status"]))
    for stay in rooms.stays:
        found = rows[stay.room_id, stay.client_id, stay.joined_at]  # two, where a client left and came within one millisecond
        if (stay.left_at, stay.final_status) in found:
            found.remove((stay.left_at, stay.final_status))
        elif found and stay.ended is not None and stay.final_status and rooms.is_on_disk(stay.ended, stay.ended_at):
            yield f"{_sat(stay)} ended as {stay.final_status} at {stay.left_at}; archived: {found}"
        elif found:
            found.pop()
        elif rooms.is_on_disk(stay.begun, stay.at):
            yield f"{_sat(stay)} is not in the archive"
    for key, found in rows.items():
        for left in found:
            yield f"the archive tells of a stay that was not: {key} to {left}"
    archived = {row["room_id"]: row for row in rooms.archived("rooms")}
    for room_id, begins in rooms.rooms.items():
        if room_id not in archived and any(rooms.is_on_disk(*begin) for begin in begins):
            yield f"the room {room_id} is not in the archive"
    for room_id, (place, at, reason) in [(room_id, ends[-1]) for room_id, ends in rooms.ends.items() if ends]:
        if reason and room_id in archived and rooms.is_on_disk(place, at) and archived[room_id]["ended_reason"] != reason:
            yield f"the room {room_id} ended by {reason}; archived: {archived[room_id]['ended_reason']}"


def what_was_answered_is_in_the_archive(rooms: RoomTranscript) -> Findings:
    """Who was told that they are in, or out, is so in the archive, but for the last moment before a crash."""
    stays: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rooms.archived("room_members"):
        stays[row["room_id"], row["client_id"]].append(row)
    for request in rooms.requests:
        if request.status != 200 or request.answered is None or not rooms.is_on_disk(request.answered, request.answered_at):
            continue
        found = stays[request.room_id or "", request.client_id]
        if request.kind == FrameType.WEBRTC_ROOM_LEAVE:
            is_told = any(row["final_status"] == "voluntary_disconnect" for row in found)
        else:
            is_told = bool(found)
        if not is_told:
            yield f"{_asked(request)} was answered 200, and the archive knows nothing of it"


def nothing_stays_open(rooms: RoomTranscript) -> Findings:
    """When everybody has gone, every stay and every room has its end."""
    for row in rooms.archived("room_members"):
        if row["left_at"] is None or row["left_at"] < row["joined_at"]:
            yield f"the stay of {row['client_id']} in {row['room_id']} is from {row['joined_at']} to {row['left_at']}"
    for row in rooms.archived("rooms"):
        if row["ended_at"] is None or row["state"] in OPEN_STATES:
            yield f"the room {row['room_id']} is {row['state']} for ever"


LAWS: tuple[Law, ...] = (
    *SIGNAL_LAWS,
    who_is_banned_stays_out,
    a_room_has_one_sender_and_no_more_than_it_may,
    a_seat_outlives_its_link_for_the_grace,
    nobody_leaves_and_nothing_ends_without_a_cause,
    members_are_told_who_comes_and_goes,
    who_comes_back_is_told_who_came_and_went,
    who_lost_a_seat_without_a_link_is_told_when_it_comes_back,
    nothing_comes_after_the_end,
    nobody_is_stuck,
    memory_is_as_told,
    the_archive_tells_what_was,
    what_was_answered_is_in_the_archive,
    nothing_stays_open,
)


def _sat(stay: Stay) -> str:
    return f"{stay.client_id} in {stay.room_id} since {stay.begun}"


def _asked(request: Request) -> str:
    return f"{request.kind.name.lower()} of {request.client_id} at {request.place}"
