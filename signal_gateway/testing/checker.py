"""What must hold of every history, whatever went wrong in it (CONTRACT.md §1 to §3, §9; DESIGN.md §7): each law a function.

    for finding in check(history):
        print(finding)

A finding is a sentence that says what is wrong and where in the history to look.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from signal_gateway.domain.events import DeviceLinked, DeviceSeen, DeviceUnlinked, ReportFiled
from signal_gateway.testing.history import History
from signal_gateway.testing.transcript import MARK, Connection, Life, Question, Transcript

ANSWER_S = 25.0
"""Seconds in which a question is answered on a link that nothing happens to: a handler has 10, the database pauses for 1."""
DURABLE = frozenset({"report", "sms_message"})
"""Questions that are acknowledged after their commit, in their order."""
AT_ONCE = frozenset({"heartbeat"})
"""Those that are acknowledged at once, in theirs."""
END_S = 7.0
"""Seconds that the gateway takes to end: 5 for what storage writes, 1 for last words, 1 to spare."""
ZERO_AT_THE_END = (
    "links",
    "outbox_bytes",
    "outbox_messages",
    "connections_unauthenticated",
    "devices_linked",
    "storage_rows_waiting",
    "presence_unwritten",
    "bus_queue_events",
    "errors_total",
    "storage_rows_lost_total",
    "storage_rows_refused_total",
)
"""Metrics that say that something is left, lost or wrong."""
NOT_SAID_BY_DEVICES = frozenset({"ping", "pong", "close"})
_TEXTS = re.compile(r"'((?:[^']|'')*)'")
"""Of a statement, the texts that it writes."""

Findings = Iterator[str]
Law = Callable[[Transcript], Findings]


def check(history: History) -> list[str]:
    """Everything that is wrong with this history; nothing when all is well."""
    transcript = Transcript(history)
    return [finding for law in LAWS for finding in law(transcript)]


def every_answer_was_asked_for_once(transcript: Transcript) -> Findings:
    """An answer belongs to a question of its own link, and no question has two."""
    for connection in transcript.connections.values():
        for place in connection.unasked:
            yield f"{_on(connection)} an answer at {place} that nobody asked for"
    for connection, question in transcript.questions():
        if len(question.answers) > question.times:
            yield f"{_on(connection)} {_named(question)} was answered {len(question.answers)} times"


def every_question_is_answered(transcript: Transcript) -> Findings:
    """A question is answered or refused, unless its link came to its end, or to harm."""
    for connection, question in transcript.questions():
        if question.answers or not question.wants_answer or connection.replaced is not None:
            continue
        until = question.at + ANSWER_S
        life = transcript.life_at(question.place)
        untroubled = connection.troubled_at is None or connection.troubled_at > until
        if untroubled and life is not None and life.ended_at > until:
            yield f"{_on(connection)} {_named(question)} was never answered"


def acknowledgements_come_in_order(transcript: Transcript) -> Findings:
    """On one link, what was asked first is acknowledged first; what is durable apart from what is not."""
    for connection in transcript.connections.values():
        for names in (DURABLE, AT_ONCE):
            last = -1
            for question in connection.questions.values():
                acknowledged = question.acknowledged
                if question.name in names and acknowledged is not None:
                    if acknowledged < last:
                        yield f"{_on(connection)} {_named(question)} was acknowledged before one that was asked earlier"
                    last = max(last, acknowledged)


def what_was_acknowledged_is_on_disk(transcript: Transcript) -> Findings:
    """A report is committed before its acknowledgement, and is there at the end; never more often than it was sent."""
    rows = Counter(mark for row in _rows(transcript, "reports") for mark in MARK.findall(str(row["data"])))
    for connection, question in transcript.questions():
        acknowledged = question.acknowledged
        if question.mark is None or acknowledged is None:
            continue
        if not any(place < acknowledged for place in transcript.committed[question.mark]):
            yield f"{_on(connection)} {_named(question)} was acknowledged before it was on disk"
        if not rows[question.mark]:
            yield f"{_on(connection)} {_named(question)} was acknowledged and is lost"
    for mark, times in rows.items():
        if times > transcript.times_sent[mark]:
            yield f"the report {mark} was sent {transcript.times_sent[mark]} times and is kept {times} times"


def what_was_registered_is_kept(transcript: Transcript) -> Findings:
    """The last acknowledged REGISTER or UNREGISTER of a client decides whether there is a record, unless a later one is in doubt."""
    kept = {str(row["device_id"]) for row in _rows(transcript, "registrations")}
    last: dict[str, Question] = {}
    for _, question in sorted(transcript.questions(), key=lambda pair: pair[1].place):
        if question.name in ("register", "unregister") and not question.changed_nothing:
            last[question.client_id] = question
    for client_id, question in last.items():
        if question.acknowledged is not None and (question.name == "register") != (client_id in kept):
            yield f"{client_id}: {_named(question)} was acknowledged, and its record is {'there' if client_id in kept else 'lost'}"


def only_the_newest_link_speaks_for_a_device(transcript: Transcript) -> Findings:
    """Generations grow; nothing of an older link is heard, and its end takes nobody offline."""
    newest: dict[str, tuple[int, int]] = {}  # generation, connection
    life: Life | None = None
    for place, entry in transcript.events:
        if (now := transcript.life_at(place)) is not life:
            life = now
            newest.clear()
        event = entry.about
        if isinstance(event, DeviceLinked):
            generation = newest.get(event.device_id, (0, 0))[0]
            if event.generation < generation or (event.generation == generation and entry.link != newest[event.device_id][1]):
                yield f"{event.device_id} at {place}: generation {event.generation} after {generation}"
            newest[event.device_id] = (event.generation, entry.link)
        elif isinstance(event, DeviceUnlinked):
            if event.generation != newest[event.device_id][0]:
                yield f"{event.device_id} at {place}: the end of generation {event.generation} took it offline, not the newest"
            elif entry.link not in (0, newest[event.device_id][1]):
                yield f"{event.device_id} at {place}: the end of connection {entry.link} took it offline, which does not speak for it"
        elif isinstance(event, DeviceSeen | ReportFiled):
            device_id = event.device_id if isinstance(event, DeviceSeen) else event.report.device_id
            if entry.link and newest[device_id][1] != entry.link:
                yield f"{device_id} at {place}: connection {entry.link} was heard after {newest[device_id][1]} had taken its place"


def a_stale_link_gets_no_acknowledgement(transcript: Transcript) -> Findings:
    """Once another link speaks for the device, nothing that this one asked is acknowledged any more."""
    for connection, question in transcript.questions():
        replaced, acknowledged = connection.replaced, question.acknowledged
        if replaced is None or acknowledged is None or acknowledged < replaced:
            continue
        kept = [place for place in transcript.committed[question.mark or ""] if place < acknowledged]
        if question.place > replaced or (kept and min(kept) > replaced):
            yield f"{_on(connection)} {_named(question)} was acknowledged after another link had taken its place at {replaced}"


def every_link_is_closed_once_in_the_log(transcript: Transcript) -> Findings:
    """The connection log has a line for each link, with one end; only a crash lets the next start write it."""
    opened = {_field(entry.about, "session_id"): place for place, entry in transcript.lines if entry.what == "link opened"}
    ends = Counter(_field(entry.about, "session_id") for _, entry in transcript.lines if entry.what == "link closed")
    written = Counter(
        text for _, statement in transcript.commits if statement.startswith("UPDATE connection_logs") for text in _TEXTS.findall(statement)
    )
    rows = {row["socket_id"]: row for row in _rows(transcript, "connection_logs")}
    for session_id, place in opened.items():
        life = transcript.life_at(place)
        crashed = life is None or life.crashed
        if ends[session_id] != 1 and not (crashed and ends[session_id] == 0):
            yield f"the link {session_id}, opened at {place}, ended {ends[session_id]} times"
        if written[session_id] != 1 and not (crashed and written[session_id] == 0):
            yield f"the end of the link {session_id}, opened at {place}, was written {written[session_id]} times"
        if session_id not in rows and not crashed:
            yield f"the link {session_id}, opened at {place}, is not in the connection log"
    for session_id, row in rows.items():
        if row["disconnected_at"] is None or row["disconnected_at"] < row["connected_at"]:
            yield f"the connection log says that {session_id} lasted from {row['connected_at']} to {row['disconnected_at']}"


def presence_is_the_truth(transcript: Transcript) -> Findings:
    """When all is calm the gateway says of each device what the device itself would say; at the very end nobody is linked on disk."""
    for told in transcript.at_the_end["truth"]:
        for device_id, is_linked, is_told in told:
            if is_linked != is_told:
                yield f"{device_id} {'has a' if is_linked else 'has no'} link, and presence says it {'has' if is_told else 'has none'}"
    for row in _rows(transcript, "device_status"):
        if row["linked"]:
            yield f"{row['device_id']} is linked on disk, and everything has ended"


def nothing_comes_out_of_nothing(transcript: Transcript) -> Findings:
    """The gateway hears no more than devices sent; they hear no more than it said."""
    heard = said = 0.0
    for life in transcript.lives:
        for name, *labels, value in life.metrics:
            told = dict(cast("Any", labels))
            if name == "signal_gateway_messages_total" and told["type"] not in NOT_SAID_BY_DEVICES:
                heard, said = (heard + value, said) if told["direction"] == "in" else (heard, said + value)
    if heard > transcript.messages_sent:
        yield f"devices sent {transcript.messages_sent} messages, and the gateway heard {heard:.0f}"
    if transcript.messages_heard > said and not any(life.crashed for life in transcript.lives):
        yield f"the gateway said {said:.0f} messages, and devices heard {transcript.messages_heard}"


def nothing_is_left_and_nothing_went_wrong(transcript: Transcript) -> Findings:
    """No task, connection, row or byte remains; no fault of ours was contained, no error was logged."""
    for what in ("connections left", "tasks left"):
        for number in transcript.at_the_end[what]:
            if number:
                yield f"{number} {what} at the end"
    for life in transcript.lives:
        if life.told_to_end_at is not None and life.ended_at - life.told_to_end_at > END_S:
            yield f"the gateway that began at {life.begun} took {life.ended_at - life.told_to_end_at:.0f} s to end"
        for name, *labels, value in life.metrics:
            if value and name.removeprefix("signal_gateway_") in ZERO_AT_THE_END:
                yield f"{name}{dict(cast('Any', labels)) or ''} is {value:g} at the end of the life that began at {life.begun}"
    for place, entry in transcript.lines:
        if entry.about[0] in ("error", "critical"):
            yield f"the gateway logged at {place}: {entry.what} {dict(entry.about[1:])}"


LAWS: tuple[Law, ...] = (
    every_answer_was_asked_for_once,
    every_question_is_answered,
    acknowledgements_come_in_order,
    what_was_acknowledged_is_on_disk,
    what_was_registered_is_kept,
    only_the_newest_link_speaks_for_a_device,
    a_stale_link_gets_no_acknowledgement,
    every_link_is_closed_once_in_the_log,
    presence_is_the_truth,
    nothing_comes_out_of_nothing,
    nothing_is_left_and_nothing_went_wrong,
)


def _on(connection: Connection) -> str:
    return f"{connection.who} on connection {connection.number}:"


def _named(question: Question) -> str:
    return f"{question.name} {question.mark or ''}at {question.place}".replace(";at", " at")


def _rows(transcript: Transcript, table: str) -> list[Mapping[str, Any]]:
    return [dict(row) for rows in transcript.at_the_end[f"rows of {table}"] for row in rows]


def _field(about: tuple[Any, ...], name: str) -> Any:
    return dict(about[1:]).get(name)
