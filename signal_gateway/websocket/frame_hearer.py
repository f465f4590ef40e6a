"""Who is told what stands in the frames of one link, and who hears for one that has ended: nobody."""

from typing import Protocol


class FrameHearer(Protocol):
    """Who is told what the parser finds."""

    def hear_data(self, is_text: bool, payload: bytes) -> bool:
        """A whole message. Returns False to hear nothing more until `FrameParser.resume`."""
        ...

    def hear_pings(self, payload: bytes, count: int) -> None:
        """So many pings, to be answered with one pong of the newest one's payload (RFC 6455 §5.5.3)."""
        ...

    def hear_pong(self) -> None:
        """A pong: a sign of life."""
        ...

    def hear_close(self, payload: bytes) -> bool:
        """A whole close frame, between messages. Returns False to have it passed on, and all that follows."""
        ...

    def pass_on(self, data: bytes) -> bool:
        """Bytes for the library. Returns False when nobody takes them, and no message will come of them."""
        ...

    def refuse_size(self, limit: str) -> None:
        """A message is larger than the setting `limit` allows (close code 1009). The parser has stopped."""
        ...


class _Nobody:
    """Hears nothing."""

    def hear_data(self, is_text: bool, payload: bytes) -> bool:
        return True

    def hear_pings(self, payload: bytes, count: int) -> None:
        pass

    def hear_pong(self) -> None:
        pass

    def hear_close(self, payload: bytes) -> bool:
        return True

    def pass_on(self, data: bytes) -> bool:
        return False

    def refuse_size(self, limit: str) -> None:
        pass


NOBODY = _Nobody()
"""Takes the place of a link that has ended, so that it is not kept in memory."""
