"""What delivery reports come to: of one part of a long SMS, of all of it, of a message that was read (T-23, C-25, H22).

A phone has a report for each part of a long SMS, and the seed's shape does not say which part it is. So of an SMS in three parts three
reports are awaited, told apart by their own times; but a phone may as well report the whole once. Which of the two it does, nobody
knows before the second report: when no further one comes for a while, and none was a failure, what was told was of the whole.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from signal_gateway.domain.command import Command, CommandKind
from signal_gateway.domain.command_answers import Answer

NUMBERED, UNNUMBERED = "parts_delivered", "parts_reported_at"
"""In a command's result: the numbers of parts that have arrived, or the times of reports that have no number."""


class Part(NamedTuple):
    """One report of arrival, beside those that came before."""

    is_news: bool
    is_whole: bool
    """Nothing more is awaited."""
    result: Mapping[str, Any]
    """What is to be added to that of the command."""
    detail: Mapping[str, Any]
    """For its timeline."""


def part_of(command: Command, answer: Answer) -> Part | None:
    """What a report that something has arrived is a part of; None when it is about the whole message."""
    known = command.result or {}
    if answer.part is not None and answer.parts is not None and answer.parts > 1:
        numbers: list[int] = list(known.get(NUMBERED, ()))
        if answer.part in numbers:
            return Part(False, False, {}, {"part": answer.part, "again": True})
        arrived = sorted([*numbers, answer.part])
        detail = {"part": answer.part, "parts": answer.parts}
        return Part(True, len(arrived) >= answer.parts, {NUMBERED: arrived, "parts": answer.parts}, detail)
    parts = parts_awaited(command)
    if parts == 1 or NUMBERED in known:
        return None
    times: list[int] = list(known.get(UNNUMBERED, ()))
    said_at = answer.at if answer.said_at is None else answer.said_at
    if answer.said_at in times:
        return Part(False, False, {}, {})
    times.append(said_at)
    return Part(True, len(times) >= parts, {UNNUMBERED: times, "parts": parts}, {"parts_reported": len(times), "parts": parts})


def parts_awaited(command: Command) -> int:
    """How many reports of arrival a command may have: as many as its SMS has parts, where its sender asked for a report."""
    if command.kind is not CommandKind.SEND_SMS or not command.delivery_report:
        return 1
    sent = (command.result or {}).get("segments_sent")
    return max(1, sent if isinstance(sent, int) else command.segments or 1)


def has_settled(command: Command) -> bool:
    """Whether something has arrived that may have been the whole."""
    return bool((command.result or {}).get(UNNUMBERED))
