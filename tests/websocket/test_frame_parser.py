"""The frame parser: what we hear ourselves, what the library gets, and that both together are the whole stream in order."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.utilities import RemoteProtocolError

from signal_gateway.websocket.frame_parser import OURS_BYTES_MAX, PINGS_ANSWERED_MAX, FrameParser, close_code, data_frame, is_utf8
from tests.websocket.client_frames import binary, client_frame, close, ping, pong, text

Said = tuple[str, bytes]


def test_a_ping_between_messages_ends_one_and_a_ping_within_one_does_not():
    """Whoever only pings is never in the middle of one message for long, however its pings are cut."""
    recorder = Recorder()
    recorder.feed(ping(b"a") + pong(b"b") + ping(b"c")[:3])
    assert (recorder.parser.messages_ended, recorder.parser.is_incomplete) == (2, True)
    recorder.feed(ping(b"c")[3:])
    assert (recorder.parser.messages_ended, recorder.parser.is_incomplete) == (3, False)
    recorder.feed(client_frame(1, b"x", fin=False) + ping(b"within"))
    assert (recorder.parser.messages_ended, recorder.parser.is_incomplete) == (3, True)


class Recorder:
    """A hearer that plays the library with wsproto: what is passed on is put together by it, and heard in the same list."""

    def __init__(self, bytes_max: int = 1_048_576, fragments_max: int = 64, pauses: bool = False) -> None:
        self.said: list[Said] = []
        self.passed = b""
        self.pings = 0
        self.refused: str | None = None
        self.pauses = pauses
        self._library = Connection(ConnectionType.SERVER)
        self._parts: list[bytes] = []
        self.parser = FrameParser(self, fragments_max)
        self.parser.limit_messages(bytes_max, "server.max_message_size")

    def feed(self, data: bytes) -> None:
        self.parser.feed(data)
        while self.parser.is_paused:
            self._library_gives()
            if self.parser.awaits_library:
                self.parser.library_gave_message()
            else:
                self.parser.resume()
        self._library_gives()

    def hear_data(self, is_text: bool, payload: bytes) -> bool:
        self.said.append(("text" if is_text else "binary", payload))
        return not self.pauses

    def hear_pings(self, payload: bytes, count: int) -> None:
        self.said.append(("ping", payload))
        self.pings += count

    def hear_pong(self) -> None:
        self.said.append(("pong", b""))

    def hear_close(self, payload: bytes) -> bool:
        if self.passed or (code := close_code(payload)) is None:
            return False
        self.said.append(("close", str(code).encode()))
        return True

    def pass_on(self, data: bytes) -> bool:
        self.passed += data
        try:
            self._library.receive_data(data)
        except RemoteProtocolError:
            self.said.append(("violation", b""))
        return True

    def refuse_size(self, limit: str) -> None:
        self.refused = limit

    def _library_gives(self) -> None:
        try:
            for event in self._library.events():
                if isinstance(event, TextMessage | BytesMessage):
                    self._parts.append(event.data.encode() if isinstance(event, TextMessage) else bytes(event.data))
                    if event.message_finished:
                        self.said.append(("text" if isinstance(event, TextMessage) else "binary", b"".join(self._parts)))
                        self._parts.clear()
                elif isinstance(event, CloseConnection):
                    self.said.append(("close", str(event.code).encode()))
        except RemoteProtocolError:
            self.said.append(("violation", b""))


def heard(data: bytes) -> list[Said]:
    recorder = Recorder()
    recorder.feed(data)
    return recorder.said


def test_whole_data_frames_are_heard_at_once_and_nothing_reaches_the_library():
    recorder = Recorder()
    recorder.feed(text("{}") + binary(b"\xaa") + text(""))
    assert recorder.said == [("text", b"{}"), ("binary", b"\xaa"), ("text", b"")]
    assert recorder.passed == b""


def test_pings_and_pongs_are_ours():
    recorder = Recorder()
    recorder.feed(ping(b"are you there") + pong(b"yes"))
    assert recorder.said == [("ping", b"are you there"), ("pong", b"")]
    assert recorder.passed == b""


@pytest.mark.parametrize("count", [1, PINGS_ANSWERED_MAX, PINGS_ANSWERED_MAX + 1, 400])
@pytest.mark.parametrize(
    ("begun", "between"), [(b"", b""), (b"", text("x")), (b"", pong(b"y")), (client_frame(1, b"fragment", fin=False), pong(b"y"))]
)
def test_of_a_flood_of_pings_in_one_read_only_the_newest_is_answered(count: int, begun: bytes, between: bytes):
    """A pong of ours for each would let its sender set us to work for as many writes; RFC 6455 §5.5.3 asks for the newest alone."""
    recorder = Recorder()
    numbered = [str(number).encode() for number in range(count)]
    recorder.feed(begun + between.join(ping(number) for number in numbered))
    answered = [payload for what, payload in recorder.said if what == "ping"]
    assert answered == numbered[:PINGS_ANSWERED_MAX] + numbered[PINGS_ANSWERED_MAX:][-1:]
    assert recorder.pings == count
    assert len(recorder.said) == len(answered) + (count - 1 if between else 0)


def test_pings_before_a_message_that_is_waited_for_are_answered_before_it_is_over():
    recorder = Recorder(pauses=True)
    flood = b"".join(ping(bytes((number,))) for number in range(40))
    recorder.parser.feed(flood + text("wait") + flood)
    assert recorder.parser.is_paused
    assert recorder.pings == 40
    recorder.feed(b"")
    assert recorder.pings == 80


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, OURS_BYTES_MAX, OURS_BYTES_MAX + 1, 200_000])
def test_every_form_of_length_is_read(size: int):
    assert heard(binary(b"x" * size) + binary(b"after")) == [("binary", b"x" * size), ("binary", b"after")]


CONVERSATION = (
    text("first")
    + client_frame(1, b"frag", fin=False)
    + ping(b"in between")
    + client_frame(0, b"mented", fin=True)
    + binary(b"behind the fragments")
    + client_frame(2, b"", fin=False)
    + client_frame(0, b"", fin=False)
    + client_frame(0, b"\x00", fin=True)
    + text("last")
    + close(1000)
)
CONVERSATION_SAID = [
    ("text", b"first"),
    ("ping", b"in between"),
    ("text", b"fragmented"),
    ("binary", b"behind the fragments"),
    ("binary", b"\x00"),
    ("text", b"last"),
    ("close", b"1000"),
]


def test_a_fragmented_message_is_heard_before_what_stands_behind_it():
    assert heard(CONVERSATION) == CONVERSATION_SAID


@pytest.mark.parametrize("place", range(1, len(CONVERSATION)))
def test_a_stream_split_at_any_byte_means_the_same(place: int):
    recorder = Recorder()
    recorder.feed(CONVERSATION[:place])
    recorder.feed(CONVERSATION[place:])
    assert recorder.said == CONVERSATION_SAID


def test_a_stream_that_comes_byte_by_byte_means_the_same():
    recorder = Recorder()
    for byte in CONVERSATION:
        recorder.feed(bytes((byte,)))
    assert recorder.said == CONVERSATION_SAID


def test_a_handler_that_waits_keeps_what_stands_behind_it():
    recorder = Recorder(pauses=True)
    recorder.parser.feed(text("one") + text("two"))
    assert recorder.said == [("text", b"one")]
    assert recorder.parser.is_paused
    recorder.parser.feed(text("three"))
    assert recorder.said == [("text", b"one")]
    recorder.parser.resume()
    recorder.parser.resume()
    assert recorder.said == [("text", b"one"), ("text", b"two"), ("text", b"three")]


VIOLATIONS = {
    "reserved bits": client_frame(1, b"x", reserved=0x40),
    "reserved opcode": client_frame(3, b"x"),
    "reserved control opcode": client_frame(11, b"x"),
    "no mask": client_frame(1, b"x", mask=None),
    "continuation of nothing": client_frame(0, b"x"),
    "a message inside a fragmented one": client_frame(1, b"x", fin=False) + client_frame(1, b"y"),
    "a fragmented ping": client_frame(9, b"x", fin=False),
    "a ping of 126 bytes": client_frame(9, b"x" * 126),
    "a length that could be shorter": b"\x82\xfe\x00\x01\x00\x00\x00\x00x",
    "a long length that could be shorter": b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00x",
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_after_a_violation_nothing_more_is_ours(name: str):
    recorder = Recorder()
    recorder.feed(VIOLATIONS[name] + text("a message behind it"))
    assert recorder.said[0] == ("close", b"1002")
    assert recorder.passed.endswith(text("a message behind it"))


def test_after_a_close_frame_nothing_more_is_ours():
    recorder = Recorder()
    recorder.feed(close(1001) + text("too late") + ping())
    assert recorder.said == [("close", b"1001")]


def test_text_that_is_not_utf8_is_for_the_library_to_refuse():
    assert heard(client_frame(1, b"\xff\xfe"))[0] == ("close", b"1007")


@pytest.mark.parametrize("size", [101, 65_536, 10**6, 2**62])
def test_a_size_is_refused_from_the_header_alone(size: int):
    recorder = Recorder(bytes_max=100)
    whole = b"\x82\xff" + size.to_bytes(8, "big") if size > 65_535 else b"\x82" + bytes((0x80 | size,))
    recorder.parser.feed(whole)
    assert recorder.refused == "server.max_message_size"
    assert recorder.passed == b""


def test_fragments_are_refused_when_their_sum_is_too_large():
    recorder = Recorder(bytes_max=100)
    recorder.feed(client_frame(2, b"x" * 60, fin=False))
    assert recorder.refused is None
    recorder.feed(client_frame(0, b"x" * 41, fin=True))
    assert recorder.refused == "server.max_message_size"


def test_sixty_five_fragments_of_nothing_are_refused():
    recorder = Recorder(fragments_max=64)
    recorder.feed(client_frame(2, b"", fin=False) + 63 * client_frame(0, b"", fin=False))
    assert recorder.refused is None
    recorder.feed(client_frame(0, b"", fin=True))
    assert recorder.refused == "link.fragments_max"


def test_each_message_may_have_its_own_fragments():
    recorder = Recorder(fragments_max=2)
    recorder.feed(2 * (client_frame(2, b"a", fin=False) + client_frame(0, b"b")))
    assert recorder.refused is None
    assert recorder.said == 2 * [("binary", b"ab")]


def test_after_a_refused_size_nothing_is_kept():
    recorder = Recorder(bytes_max=10)
    recorder.parser.feed(binary(b"x" * 11) + binary(b"y"))
    recorder.parser.feed(binary(b"z") * 1000)
    assert recorder.said == []
    assert not recorder.parser.is_incomplete


def test_a_message_under_way_is_seen_as_such():
    recorder = Recorder()
    recorder.parser.feed(binary(b"hello")[:4])
    assert recorder.parser.is_incomplete
    recorder.parser.feed(binary(b"hello")[4:])
    assert not recorder.parser.is_incomplete
    assert recorder.parser.messages_ended == 1


FRAMES = st.one_of(
    st.binary(max_size=300).map(binary),
    st.text(max_size=100).map(text),
    st.binary(max_size=125).map(ping),
    st.just(b"").map(pong),
    st.lists(st.binary(max_size=50), min_size=2, max_size=5).map(
        lambda parts: (
            client_frame(2, parts[0], fin=False)
            + b"".join(client_frame(0, part, fin=False) for part in parts[1:-1])
            + client_frame(0, parts[-1])
        )
    ),
    st.integers(OURS_BYTES_MAX, OURS_BYTES_MAX + 10).map(lambda size: binary(b"x" * size)),
)


@given(frames=st.lists(FRAMES, max_size=6), cuts=st.lists(st.integers(0, 200_000), max_size=12))
def test_the_library_alone_and_both_together_hear_the_same(frames: list[bytes], cuts: list[int]):
    """wsproto is the oracle: fed with everything, it must give what our ears and it together give, in the same order."""
    stream = b"".join(frames)
    recorder, oracle = Recorder(), Recorder()
    oracle.pass_on(stream)
    oracle._library_gives()
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, stop in pairwise(places):
        recorder.feed(stream[start:stop])
    assert [said for said in recorder.said if said[0] in ("text", "binary")] == oracle.said


def until_the_first_fault(said: list[Said]) -> list[Said]:
    """What was heard before the protocol was broken or the link closed: behind that nothing counts."""
    return said[: next((place for place, (kind, _) in enumerate(said) if kind in ("violation", "close")), len(said))]


@given(st.binary(max_size=300))
def test_any_bytes_mean_the_same_at_once_and_one_by_one(noise: bytes):
    whole, slow = Recorder(bytes_max=200), Recorder(bytes_max=200)
    whole.feed(noise)
    for byte in noise:
        slow.feed(bytes((byte,)))
    assert until_the_first_fault(slow.said) == until_the_first_fault(whole.said)
    assert slow.refused == whole.refused
    assert slow.passed == whole.passed


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_what_we_send_is_read_by_a_client(size: int):
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data_frame(0x82, b"y" * size))
    parts = [bytes(event.data) for event in client.events() if isinstance(event, BytesMessage)]
    assert b"".join(parts) == b"y" * size


def test_utf8_is_judged_as_python_does():
    assert is_utf8(b"plain")
    assert is_utf8("çığ 🌍".encode())
    assert not is_utf8(b"\xed\xa0\x80")
    assert not is_utf8(b"\xc0\x80")
