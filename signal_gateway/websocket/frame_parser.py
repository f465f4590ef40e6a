"""WebSocket frames of one link: what we hear ourselves, and what trio-websocket gets (RFC 6455 §5; DESIGN.md §4).

trio-websocket stays the authority on the protocol. This parser takes from the byte stream what is plain and frequent - whole, masked,
unfragmented data frames, pings, pongs and a close between messages - and passes everything else on, unchanged and in order. It reads
the header of what it passes on, too, so that it knows where that frame ends, whether a fragmented message is under way, and refuses
sizes before a byte of the payload is read. After a violation, or a close that is not plain, the library gets all the rest.

No I/O and no clock here: bytes in, calls on a FrameHearer out.
"""

from websockets.speedups import apply_mask

from signal_gateway.websocket.frame_hearer import NOBODY, FrameHearer

OURS_BYTES_MAX = 65_556
"""The largest binary frame of our protocol. What is longer goes to the library, which puts it together while it arrives."""

TEXT = 0x81
BINARY = 0x82
CLOSE = 0x88
PING = 0x89
PONG = 0x8A
_CONTINUATION = 0x00
_FIN = 0x80
_RESERVED = 0x70
_MASKED = 0x80
_CONTROL_BYTES_MAX = 125
NO_STATUS = 1005
"""The code of a close without one; it never travels."""
_PLAIN_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013})
_SHORT_LENGTH_MAX, _LENGTH_FOLLOWS = 125, 126
"""Bytes of a payload whose length stands in the second byte of its frame; and what stands there where it follows in two more bytes."""
_PLAIN_HEAD_BYTES = 6
"""Of a frame whose length does not follow; that of others has two more."""
PINGS_ANSWERED_MAX = 32
"""Pings of one read that are answered one by one. Of those beyond, a flood, only the newest is (RFC 6455 §5.5.3)."""
_DATA_OPCODES = (0x1, 0x2)
_PASSABLE_OPCODES = (0x0, 0x1, 0x2, 0x9, 0xA)


class FrameParser:
    """Splits what a client sends into frames. `feed` takes bytes as they come, and keeps at most one message's and what stood behind it."""

    __slots__ = (
        "_awaits_library",
        "_fragment_bytes",
        "_fragments",
        "_hear_data",
        "_hearer",
        "_in_fragments",
        "_library_only",
        "_newest_ping",
        "_passing",
        "_passing_ends_message",
        "_paused",
        "_pings",
        "_plain_bytes_max",
        "_rest",
        "_size_limit",
        "_stopped",
        "fragments_max",
        "frames",
        "is_paused",
        "message_bytes_max",
        "messages_ended",
    )

    def __init__(self, hearer: FrameHearer, fragments_max: int) -> None:
        self._hearer = hearer
        self._hear_data = hearer.hear_data
        self.fragments_max = fragments_max
        self.message_bytes_max = 0
        self._size_limit = ""
        self._plain_bytes_max = 0
        self.is_paused = False
        """Whether bytes are kept, not read: a handler waits, or the library has a message to be heard first."""
        self.messages_ended = 0
        """Counts whole messages, ours and the library's, and what controls the link between them: one that drags on is not counted."""
        self.frames = 0
        """Counts frames, ours and the library's."""
        self._rest = b""  # the beginning of a frame that is not complete yet
        self._passing = 0  # bytes of the present frame that are still to be passed on
        self._passing_ends_message = False
        self._in_fragments = False
        self._fragments = 0
        self._fragment_bytes = 0
        self._library_only = False
        self._awaits_library = False  # a message was passed on whole; what stands behind it must be heard after it
        self._paused = False
        self._stopped = False
        self._pings = 0  # of this read
        self._newest_ping = b""  # of those that are not answered one by one, as it came

    @property
    def awaits_library(self) -> bool:
        """Whether the library owes a message that was passed on to it whole."""
        return self._awaits_library

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is heard, not even the peer's answer to our close: a size was refused, or the link has ended."""
        return self._stopped

    @property
    def is_passing(self) -> bool:
        """Whether a frame is under way to the library, and more of it is to come."""
        return self._passing > 0

    @property
    def is_incomplete(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._rest or self._passing or self._in_fragments)

    def stop(self) -> None:
        """Nothing more is heard, and nobody is kept in memory for it."""
        self._stopped = True
        self._rest = b""
        self._hearer = NOBODY
        self._hear_data = NOBODY.hear_data

    def limit_messages(self, bytes_max: int, setting: str) -> None:
        """From now on a message may have `bytes_max` bytes; `setting` is the name under which a longer one is counted."""
        self.message_bytes_max = bytes_max
        self._size_limit = setting
        self._plain_bytes_max = min(OURS_BYTES_MAX, bytes_max)

    def resume(self) -> None:
        """Go on after a pause, with the bytes that were left."""
        self._paused = False
        self._go_on()

    def library_gave_message(self) -> None:
        """The message that was passed on has been heard: go on behind it."""
        self._awaits_library = False
        self._go_on()

    def feed(self, data: bytes) -> None:
        """Read what came. While paused it is kept, so the caller stops reading the socket."""
        buffer = self._rest + data if self._rest else data
        end = len(buffer)
        is_plain = not (self.is_paused or self._passing or self._in_fragments or self._library_only or self._stopped)
        at = self._plain(buffer, 0, end) if is_plain else 0
        if at < end:
            at = self._feed_other(buffer, at, end)
        self._rest = buffer[at:] if at < end and not self._stopped else b""
        if self._pings:
            self._answer_flood()

    def _go_on(self) -> None:
        self.is_paused = self._paused or self._awaits_library
        if not self.is_paused:
            self.feed(b"")

    def _feed_other(self, buffer: bytes, at: int, end: int) -> int:
        """Read what begins with no plain message, as far as it is whole. Returns where it ends."""
        while at < end and not (self.is_paused or self._stopped):
            if self._library_only:
                self._hearer.pass_on(buffer[at:])
                at = end
            elif self._passing:
                at = self._pass(buffer, at, end)
            else:
                begun_at = at
                at = self._frame(buffer, at, end)
                if at == begun_at and not (self._passing or self._library_only):
                    break  # not whole yet
                self.frames += 1
                if not (self._passing or self._in_fragments or self.is_paused or self._stopped):
                    at = self._plain(buffer, at, end)
        return at

    def _plain(self, buffer: bytes, at: int, end: int) -> int:
        """Hear whole messages of up to 64 KiB, pings and pongs, one behind the other: nearly all that comes. Returns where they end."""
        heard = 0
        hear, bytes_max = self._hear_data, self._plain_bytes_max
        try:
            while end - at >= _PLAIN_HEAD_BYTES:
                first, length = buffer[at], buffer[at + 1] - _MASKED
                body = at + _PLAIN_HEAD_BYTES
                if length > _SHORT_LENGTH_MAX:
                    if length != _LENGTH_FOLLOWS or end - body < 2:
                        break
                    length, body = buffer[at + 2] << 8 | buffer[at + 3], body + 2
                    if length <= _SHORT_LENGTH_MAX:
                        break
                stop = body + length
                if (first != BINARY and first != TEXT) or not 0 <= length <= bytes_max or stop > end:
                    if (first != PING and first != PONG) or not 0 <= length <= _CONTROL_BYTES_MAX or stop > end:
                        break
                    at = stop
                    heard += 1
                    self._hear_control(first, buffer[body - 4 : stop])
                    continue
                payload = apply_mask(buffer[body:stop], buffer[body - 4 : body])
                if first == TEXT and not is_utf8(payload):
                    break
                at = stop
                heard += 1
                if not hear(first == TEXT, payload):
                    self._paused = self.is_paused = True
                    break
                if self._stopped:
                    break
        finally:
            self.frames += heard
            self.messages_ended += heard
        return at

    def _hear_control(self, first: int, masked: bytes) -> None:
        """A ping or a pong: its mask and, behind that, its payload."""
        if first == PONG:
            self._hearer.hear_pong()
            return
        self._pings += 1
        if self._pings <= PINGS_ANSWERED_MAX:
            self._hearer.hear_pings(apply_mask(masked[4:], masked[:4]), 1)
        else:
            self._newest_ping = masked

    def _answer_flood(self) -> None:
        """One read is over that had pings in it, perhaps too many to answer each."""
        pings, newest = self._pings - PINGS_ANSWERED_MAX, self._newest_ping
        self._pings, self._newest_ping = 0, b""
        if pings > 0:
            self._hearer.hear_pings(apply_mask(newest[4:], newest[:4]), pings)

    def _frame(self, buffer: bytes, at: int, end: int) -> int:
        """Read the frame that begins at `at`. Returns where the next begins, or `at` when it is not whole or is to be passed on."""
        if end - at < 2:
            return at
        first, second = buffer[at], buffer[at + 1]
        length, body = second & 0x7F, at + 2
        is_minimal = True
        if length == 126:
            if end - at < 4:
                return at
            length, body = buffer[at + 2] << 8 | buffer[at + 3], at + 4
            is_minimal = length > 125
        elif length == 127:
            if end - at < 10:
                return at
            length, body = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            is_minimal = length > 65_535
        stop = body + 4 + length
        if second & 0x80 and is_minimal:
            if first in (BINARY, TEXT) and not self._in_fragments and length <= OURS_BYTES_MAX:
                if length > self.message_bytes_max:
                    return self._refuse(self._size_limit, at)
                if stop > end:
                    return at
                payload = apply_mask(buffer[body + 4 : stop], buffer[body : body + 4])
                if first == BINARY or is_utf8(payload):
                    self.messages_ended += 1
                    if not self._hear_data(first == TEXT, payload):
                        self._paused = self.is_paused = True
                    return stop
            elif first in (PING, PONG) and length <= _CONTROL_BYTES_MAX:
                if stop > end:
                    return at
                if not self._in_fragments:
                    self.messages_ended += 1
                self._hear_control(first, buffer[body:stop])
                return stop
            elif first == CLOSE and length <= _CONTROL_BYTES_MAX and not self._in_fragments:
                return self._hear_close(buffer, at, body + 4, stop, end)
        if not (second & 0x80 and is_minimal):
            self._library_only = True
            return at
        return self._begin_passing(first, length, stop - at, at)

    def _hear_close(self, buffer: bytes, at: int, body: int, stop: int, end: int) -> int:
        if stop > end:
            return at
        if not self._hearer.hear_close(apply_mask(buffer[body:stop], buffer[body - 4 : body])):
            self._library_only = True
            return at
        self._stopped = True
        return stop

    def _begin_passing(self, first: int, length: int, frame_bytes: int, at: int) -> int:
        """The library's frame: large, fragmented, not UTF-8, a close, or against the rules."""
        opcode = first & 0x0F
        is_final = bool(first & _FIN)
        out_of_turn = (opcode == _CONTINUATION and not self._in_fragments) or (opcode in _DATA_OPCODES and self._in_fragments)
        bad_control = opcode > 7 and (not is_final or length > _CONTROL_BYTES_MAX)
        if opcode not in _PASSABLE_OPCODES or first & _RESERVED or out_of_turn or bad_control:
            self._library_only = True
            return at
        if opcode <= 2:
            self._fragments += 1
            self._fragment_bytes += length
            if self._fragment_bytes > self.message_bytes_max:
                return self._refuse(self._size_limit, at)
            if self._fragments > self.fragments_max:
                return self._refuse("link.fragments_max", at)
            self._in_fragments = not is_final
            if is_final:
                self._fragments = self._fragment_bytes = 0
            self._passing_ends_message = is_final
        self._passing = frame_bytes
        return at

    def _pass(self, buffer: bytes, at: int, end: int) -> int:
        stop = min(end, at + self._passing)
        self._passing -= stop - at
        is_taken = self._hearer.pass_on(buffer[at:stop])
        if not self._passing and self._passing_ends_message:
            self._passing_ends_message = False
            self._awaits_library = self.is_paused = is_taken
            self.messages_ended += 1
        return stop

    def _refuse(self, limit: str, at: int) -> int:
        self._stopped = True
        self._hearer.refuse_size(limit)
        return at


_SMALL_HEADS = {first: [bytes((first, size)) for size in range(126)] for first in (TEXT, BINARY, CLOSE, PING, PONG)}


def is_utf8(data: bytes) -> bool:
    """Whether `data` is valid UTF-8, as a text message must be (RFC 6455 §8.1)."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def close_code(payload: bytes) -> int | None:
    """The code of a close frame that is plain; NO_STATUS of an empty one, None where the library is to judge (RFC 6455 §7.4)."""
    if not payload:
        return NO_STATUS
    code = int.from_bytes(payload[:2], "big")
    is_plain = len(payload) > 1 and (code in _PLAIN_CLOSE_CODES or 3000 <= code < 5000) and is_utf8(payload[2:])
    return code if is_plain else None


def close_frame(code: int, reason: str) -> bytes:
    """A server's close frame; of the reason as much as fits."""
    text = reason.encode()[: _CONTROL_BYTES_MAX - 2].decode(errors="ignore")
    return data_frame(CLOSE, int(code).to_bytes(2, "big") + text.encode())


def data_frame(first: int, payload: bytes) -> bytes:
    """A server's frame: not masked, in one piece (RFC 6455 §5.2). `first` is TEXT, BINARY, PING, PONG or CLOSE."""
    size = len(payload)
    if size < 126:
        return _SMALL_HEADS[first][size] + payload
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload
