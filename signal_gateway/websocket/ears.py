"""What one kind of link hears: the tables of its handlers (DESIGN.md §3)."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from protocol.dialect import Question

# What a handler is given first is the link itself; a table of handlers need not know what that is.
Handler = Callable[[Any, Any, Question], Coroutine[Any, Any, None] | None]
"""Takes the link, the typed message and its question. What it returns must be waited for; a plain function has ended."""
SignalHandler = Callable[[Any, Any], None]
"""Takes the link and the WrittenSignal, its sender filled in."""
AgainHandler = Callable[[Any, Any, str | None], bool]
"""Takes the link, what the heartbeat meant the first time, and the request_id, if there is one."""


@dataclass(frozen=True, slots=True)
class Ears:
    """A handler for each type of message, before and after authentication."""

    before: Mapping[type, Handler]
    after: Mapping[type, Handler]
    hears_plain_beats: bool = False
    """After authentication, whether a plain HEARTBEAT is a sign of life and no more: what `after` makes of all others, only sooner."""
    said_again: AgainHandler | None = None
    """After authentication, hears a phone's heartbeat that says the same as the one before: what `after` does, only sooner. Returns
    whether that was all; else it is for `after` as well."""
    plain_signal: SignalHandler | None = None
    """After authentication, hears a signal in a plain frame: what `after` does with all others, only sooner."""
    of_guests: "Ears | None" = None
    """What is heard of one who came by the link of a room alone."""
