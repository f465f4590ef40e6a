"""What a peer must do in time, looked at for all links whose time it is: no timer, and no task, for any of them (CONTRACT.md §9)."""

from dataclasses import dataclass
from math import inf
from typing import Final

from protocol.close_codes import CloseCode
from signal_gateway.websocket.frame_parser import FrameParser
from signal_gateway.websocket.link_settings import LinkSettings
from signal_gateway.websocket.stream import LinkStream


@dataclass(frozen=True, slots=True)
class Missed:
    """A deadline that has passed, and what ends the link for it."""

    setting: str
    """Under which it is counted."""
    code: CloseCode
    reason: str


UNAUTHENTICATED: Final = Missed("auth.deadline_s", CloseCode.UNAUTHORISED, "not authenticated in time")
SILENT: Final = Missed("link.silence_max_s", CloseCode.SILENT, "nothing heard for too long")
EXPIRED: Final = Missed("auth.token_expiry", CloseCode.TOKEN_EXPIRED, "the token has expired")
DRAGGING: Final = Missed("link.message_seconds_max", CloseCode.SLOW, "one message took too long")


class Deadlines:
    """Those of one link. While we do not read the link, its clocks stand still. Times are Trio seconds.

    Only the one of authentication does not, for whoever is over the rate of frames: a flood holds no place of a stranger for longer.
    """

    __slots__ = ("_auth_deadline_s", "_opened_at", "_settings", "_token_warning_s", "_unfinished", "_warned_of")

    def __init__(self, settings: LinkSettings, auth_deadline_s: float, token_warning_s: float, opened_at: float) -> None:
        self._settings = settings
        self._auth_deadline_s = auth_deadline_s
        self._token_warning_s = token_warning_s
        self._opened_at = opened_at
        self._unfinished: tuple[int, float] | None = None  # which message was under way, and since when
        self._warned_of: int | None = None  # the end of a token that was told

    def is_to_be_warned(self, expires_at: int | None, token_left_s: float) -> bool:
        """Whether it is time to say that the token ends: once for each (C-18)."""
        is_time = 0 < token_left_s <= self._token_warning_s and self._warned_of != expires_at
        if is_time:
            self._warned_of = expires_at
        return is_time

    def missed(self, now: float, is_authenticated: bool, token_left_s: float, stream: LinkStream, parser: FrameParser) -> Missed | None:
        """The deadline that has passed, if one has. That of a token passes whatever we do."""
        if token_left_s <= 0:
            return EXPIRED
        if parser.is_paused:
            self._unfinished = None
            return None
        if not is_authenticated and now - self._opened_at >= self._auth_deadline_s:
            return UNAUTHENTICATED
        if stream.read_not_before > now:
            self._unfinished = None
            return None
        if now - max(stream.heard_at, stream.read_not_before) >= self._settings.silence_max_s:
            return SILENT
        return DRAGGING if self._drags(now, parser) else None

    def next_at(self, now: float, is_authenticated: bool, token_left_s: float, stream: LinkStream, parser: FrameParser) -> float:
        """When the next deadline passes if nothing happens, or the token is to be warned of. Now, while a clock may stand still.

        A message that will drag may begin at once, and is noticed in the time that it has.
        """
        if parser.is_paused or parser.is_incomplete or stream.read_not_before > now:
            return now
        heard_at = max(stream.heard_at, stream.read_not_before)
        token_at = now + (token_left_s - self._token_warning_s if token_left_s > self._token_warning_s else token_left_s)
        auth_at = inf if is_authenticated else self._opened_at + self._auth_deadline_s
        return min(heard_at + self._settings.silence_max_s, token_at, auth_at, now + self._settings.message_seconds_max)

    def _drags(self, now: float, parser: FrameParser) -> bool:
        """Whether the message that is under way now was so `message_seconds_max` ago, too (a slow sender holds memory)."""
        if not parser.is_incomplete:
            self._unfinished = None
            return False
        ended = parser.messages_ended
        if self._unfinished is None or self._unfinished[0] != ended:
            self._unfinished = (ended, now)
        return now - self._unfinished[1] >= self._settings.message_seconds_max
