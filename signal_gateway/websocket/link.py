"""One live link: a nursery of its own, in which it lives and with which it dies (DESIGN.md §3, §4; X-01).

What a link hears takes one way: frame parser -> `hear_data` -> dialect -> table of handlers -> services. What it says goes through one
outbox. A handler that is a plain function runs at once; one that must wait pauses the link and runs in the link's nursery, with a
deadline, so the messages of a link are always heard in order.
"""

from collections.abc import Callable, Coroutine
from math import inf
from time import perf_counter
from typing import Any

import trio

from protocol import dialect, plain
from protocol.agent import Disconnect, ReportAck, TokenRefreshDue
from protocol.close_codes import OFFENCES, CloseCode, may_reconnect
from protocol.dialect import Question
from protocol.errors import WireError
from protocol.payload import PayloadKind
from protocol.plain_signals import SIGNAL_NAMES, SignalReader, question_of
from signal_gateway.domain.device import DeviceStatus
from signal_gateway.domain.errors import DatabaseDown, GatewayError, Internal
from signal_gateway.domain.principal import LinkKind, Principal
from signal_gateway.observe.logs import logger
from signal_gateway.websocket.admission import Ticket
from signal_gateway.websocket.commands_said import CommandsSaid
from signal_gateway.websocket.connection import Connection
from signal_gateway.websocket.deadlines import UNAUTHENTICATED, Deadlines
from signal_gateway.websocket.door import Door
from signal_gateway.websocket.ears import AgainHandler, Ears, Handler
from signal_gateway.websocket.frame_parser import BINARY, TEXT, data_frame
from signal_gateway.websocket.handshake import upgrade_answer
from signal_gateway.websocket.refusals import Refusals
from signal_gateway.websocket.request_head import Request

HEARD_WITHOUT_ROOM = frozenset({"heartbeat", "connect", "disconnect"})
"""What writes next to nothing, and is heard however far the writer is behind."""

_BEAT_ACK_FRAMES = tuple(data_frame(BINARY, bytes(size))[:2] + plain.BEAT_ACK_BEGINS for size in range(126))
"""How the WebSocket frame of a plain heartbeat's answer begins, by the size of its payload."""

log = logger("websocket")


class Link:
    """One connection of one client. `run` serves it until it ends; everything else may be called by anybody, and never waits."""

    def __init__(
        self, door: Door, kind: LinkKind, ears: Ears, transport: trio.abc.Stream, request: Request, address: str, ticket: Ticket
    ) -> None:
        self.door = door
        self.kind = kind
        self._kind_word = kind.value
        self.address = address
        self.session_id = door.new_id()
        self.principal: Principal | None = None
        self.client_id = ""
        """Whom this link speaks for; empty before authentication."""
        self.generation = 0
        self.encoding: tuple[bool, int] = (True, PayloadKind.JSON.value)
        """Of what we start: whether it is text, and the payload kind of frames. Those of CONNECT or REGISTER (CONTRACT.md §2)."""
        self.is_fenced = False
        """Whether nothing of it is heard any more, and nothing but a goodbye is said."""
        self.commands_said: CommandsSaid | None = None
        """See LiveLink."""
        self._connection = Connection(self, transport, upgrade_answer(request), request.rest, door.bounds, door.metrics, door.turn)
        self.outbox = self._connection.outbox
        self.stream = self._connection.stream
        self.parser = self._connection.parser
        self.parser.limit_messages(door.security.unauthenticated_message_bytes, "security.unauthenticated_message_bytes")
        self._ears = ears
        self._ticket = ticket
        self._settings = door.link
        self._turn = door.turn
        self._messages = door.metrics.messages.values
        self._buckets = door.limits.stranger()
        self._data_bucket = self._buckets.data
        self.status_told: DeviceStatus | None = None
        """Set by the handler of a heartbeat with a status: what it said."""
        self._again: tuple[bytes, DeviceStatus] | None = None  # the data of the last one in JSON, and their meaning: most say it again
        self._deadlines = Deadlines(door.link, door.auth_deadline_s, door.token_warning_s, trio.current_time())
        self._is_heard = False  # authenticated, and not fenced
        self._refusals = Refusals(self, door.security.max_malformed_per_minute, door.metrics)
        self._goodbye: tuple[int, str] | None = None
        self._signals: SignalReader | None = None

    # a life

    async def run(self, greet: Callable[["Link"], None]) -> None:
        """Answer the upgrade, then serve the link until the peer or we end it. `greet` is called once, right after the upgrade."""
        hub = self.door.hub

        def opened() -> None:
            hub.add(self)
            greet(self)

        try:
            async with trio.open_nursery() as nursery:
                await self._connection.serve(nursery, self.door.lane, opened)
        finally:
            self._fence()
            hub.remove(self)
            self._tell_presence()
            self._let_go()

    def _fence(self) -> None:
        """From now on nothing of this link is heard, and nothing but a goodbye is said."""
        self.is_fenced = True
        self._is_heard = False

    def _let_go(self) -> None:
        """Cut what its parts know of the link, so that its memory is free at once: nothing collects cycles often (DESIGN.md §4)."""
        self._connection.let_go()
        self._refusals.forget_link()

    def close_soon(self, code: int, reason: str, retry_after_s: float | None = None) -> None:
        """Say goodbye and end the link. From this moment on nothing of it is heard, and nothing but the goodbye is said."""
        if self._goodbye is not None:
            return
        if self.kind is LinkKind.AGENT and self.principal is not None and code != CloseCode.NORMAL:
            goodbye = Disconnect(code=int(code), reason=reason, reconnect=may_reconnect(code), retry_after_s=retry_after_s)
            self.say(goodbye, "disconnect")
        self._goodbye = (code, reason)
        self._fence()
        self._connection.close(code, reason)

    def authenticated(self, principal: Principal) -> None:
        """The client has proved who it is: this link speaks for it from now on, and an older one no more."""
        if self.is_fenced:
            return
        is_new = self.principal is None
        self.principal = principal
        door = self.door
        door.hub.look_soon(self)
        if not is_new:
            return
        self.client_id = principal.client_id
        if self._ears.plain_signal is not None:
            self._signals = SignalReader(principal.client_id)
        door.admission.authenticated(self._ticket)
        door.hub.claim(self, principal.client_id)
        self._buckets = door.limits.client(principal.client_id)
        self._data_bucket = self._buckets.data
        if principal.room_id is not None:
            self._ears = self._ears.of_guests or self._ears
        self._is_heard = True
        self.parser.limit_messages(door.server.max_message_size, "server.max_message_size")
        self.generation = door.presence.link_opened(principal, self.session_id, self.address, self)
        log.info("link opened", kind=self.kind.value, client_id=principal.client_id, session_id=self.session_id, address=self.address)

    def look_after(self, now: float) -> float:
        """Deadlines of authentication, of a message, of silence, of its token; a ping when we were silent. Returns when to look again."""
        if self._goodbye is not None:
            return inf
        expires_at = None if self.principal is None else self.principal.expires_at
        left_s = inf if expires_at is None else (expires_at - self.door.wall_ms()) / 1000
        if expires_at is not None and self.kind is not LinkKind.PHONE and self._deadlines.is_to_be_warned(expires_at, left_s):
            self.say(TokenRefreshDue(expires_at=expires_at, expires_in_s=round(left_s, 1)), "token_refresh")  # phones know no such message
        missed = self._deadlines.missed(now, self.principal is not None, left_s, self.stream, self.parser)
        if missed is not None:
            self.door.metrics.limits.add(missed.setting)
            if missed is UNAUTHENTICATED:
                self._refusals.unauthenticated(None, is_text=False)
            self.close_soon(missed.code, missed.reason)
            return inf
        if now - self.outbox.sent_at >= self._settings.ping_after_s:
            self._connection.ping()
        silent_at = self.outbox.sent_at + self._settings.ping_after_s
        return min(silent_at, self._deadlines.next_at(now, self.principal is not None, left_s, self.stream, self.parser))

    @property
    def heard_at(self) -> float:
        """See Heard: when something was last heard, in Trio seconds."""
        return self.stream.heard_at

    def is_within_rate(self) -> bool:
        """Whether one more message of the class `data` may be heard now; it is counted then."""
        return self._data_bucket.take(self.stream.heard_at) == 0

    # hearing: called by the connection

    def hear_data(self, is_text: bool, payload: bytes) -> bool:
        """See Hearer: one whole message. False when its handler must wait."""
        if self._is_heard and not is_text:
            if payload.startswith(plain.BEAT_BEGINS):
                if self._ears.hears_plain_beats and plain.is_plain_beat(payload) and self._hears_as_plain_beat(payload):
                    return True
            elif self._hears_as_plain_signal(payload):
                return True
        elif self._is_heard and self._ears.said_again is not None:
            return self._hear_phone(self._ears.said_again, payload)
        return self._hear_or_wait(is_text, payload)

    def hear_late(self, is_text: bool, payload: bytes) -> Coroutine[Any, Any, None] | None:
        """See Hearer."""
        return self._hear(is_text, payload)

    def hear_pong(self) -> None:
        """See Hearer."""
        self.door.metrics.messages.add("in", "pong")

    def refuse_size(self, limit: str) -> None:
        """See Hearer."""
        self.door.metrics.limits.add(limit)
        self.close_soon(CloseCode.TOO_BIG, "the message is too big")

    def ended(self, code: int, reason: str) -> None:
        """See Hearer."""
        if self._goodbye is None:
            self._goodbye = (code, reason)
        self._fence()

    def too_slow(self, limit: str) -> None:
        """See Hearer. If the peer begins to read within `close_s`, it gets the close code as its last word."""
        self.close_soon(CloseCode.SLOW, f"too slow: {limit}")

    # saying

    def answer(self, question: Question, message: object) -> None:
        """Answer a question in its own encoding."""
        self.put(question.is_text, dialect.answer(question, message), f"{question.name}_ack")

    def say(self, message: object, name: str, uuid: bytes | None = None) -> None:
        """Say something that nobody asked for, in the encoding that the client came with; `uuid` is that of its frame, where it matters."""
        is_text, payload_kind = self.encoding
        self.put(is_text, dialect.say(is_text, payload_kind, uuid or self.door.new_uuid_bytes(), message), name)

    def new_uuid_bytes(self) -> bytes:
        """For a frame that we start."""
        return self.door.new_uuid_bytes()

    def put_frame(self, frame: bytes, payload_bytes: int, name: str) -> None:
        """Send one whole message that is in its WebSocket frame already, as several links get it; counted as `name`."""
        if not self.is_fenced:  # else a newer link speaks for this client, or we have said goodbye
            self._messages["out", name] += 1
            self._turn.bytes_out += payload_bytes
            self.outbox.put(frame)

    def refuse_request(self, question: Question, error: GatewayError) -> None:
        """Refuse a request in its own answer, ids null, where it has one (CONTRACT.md §2)."""
        if not self.is_fenced:
            self._refusals.failed(question, error, question.is_text)

    def acknowledge(self, question: Question, message_id: str | None = None) -> None:
        """Tell a device that what it reported is kept: REPORT_ACK, or `ack` where its JSON asked for one (CONTRACT.md §2)."""
        self.answer(question, ReportAck(status=200, message_id=message_id))

    def refuse(self, question: Question | None, error: GatewayError, is_text: bool = False) -> None:
        """Tell the asker why not, in an ERROR message."""
        if self.is_fenced:
            return
        self._refusals.refused(question, error, is_text)

    # inside

    def _hear_or_wait(self, is_text: bool, payload: bytes) -> bool:
        waiting = self._hear(is_text, payload)
        if waiting is None:
            return True
        self._connection.hear_on_after(waiting)
        return False

    def _hear_phone(self, hear_again: AgainHandler, text: bytes) -> bool:
        """A phone's JSON: a heartbeat that says the same again, within its rate, or all else."""
        again = self._again
        if again is not None and (beat := plain.same_beat(text, again[0])) is not None and self._hears_again(hear_again, again[1], beat):
            self._turn.bytes_in += len(text)
            self._messages["in", "heartbeat"] += 1
            return True
        self.status_told = None
        is_over = self._hear_or_wait(True, text)
        if self.status_told is not None and (data := plain.beat_data(text)) is not None:
            self._again = data, self.status_told
        return is_over

    def _hears_again(self, hear: AgainHandler, status: DeviceStatus, beat: plain.BeatEnvelope) -> bool:
        try:
            return hear(self, status, beat.request_id)
        except Exception:
            self._contain(None, is_text=True)
            return True

    def _hears_as_plain_beat(self, payload: bytes) -> bool:
        """Whether it was one within its rate; else nothing has happened, and it is heard the long way. Its answer is as long as it was."""
        try:
            now, turn = self.stream.heard_at, self._turn
            if self._data_bucket.take(now) > 0:
                return False
            turn.beats += 1
            size = len(payload)
            turn.beat_bytes += size
            self.outbox.put(_BEAT_ACK_FRAMES[size] + payload[2:])
        except Exception:
            self._contain(None, is_text=False)
        return True

    def _hears_as_plain_signal(self, payload: bytes) -> bool:
        """Whether it was one within its rate; else nothing has happened, and it is heard the long way."""
        hear, reader, turn = self._ears.plain_signal, self._signals, self._turn
        if hear is None or reader is None or not turn.has_room or (signal := reader.read(payload)) is None:
            return False
        if self._buckets.signal.take(self.stream.heard_at) > 0:
            return False
        turn.bytes_in += len(payload)
        self._messages["in", SIGNAL_NAMES[signal.frame_type]] += 1
        try:
            hear(self, signal)
        except GatewayError as error:
            self.refuse(question_of(payload, signal), error)
        except Exception:
            self._contain(question_of(payload, signal), is_text=False)
        return True

    def _hear(self, is_text: bool, payload: bytes) -> Coroutine[Any, Any, None] | None:
        """One message: decode, check the rate, hand to its handler. A handler that must wait is returned, not yet begun."""
        if self.is_fenced:
            return None
        metrics, turn = self.door.metrics, self._turn
        turn.bytes_in += len(payload)
        begun_at = perf_counter()
        question: Question | None = None
        try:
            message, question = dialect.decode(is_text, payload, self._kind_word)
            self._messages["in", question.name] += 1
            if (wait_s := self._buckets.of(question.rate_class).take(self.stream.heard_at)) > 0:
                self._refusals.too_often(question, wait_s)
                return None
            ears = self._ears.before if self.principal is None else self._ears.after
            handler = ears.get(type(message))
            if handler is None:
                self._refusals.unheard(question)
                return None
            if not turn.has_room and question.name not in HEARD_WITHOUT_ROOM:
                metrics.limits.add("storage.high_water_rows")
                return self._wait(self._hear_when_there_is_room(handler, message, question), question)
            waiting = handler(self, message, question)
            return None if waiting is None else self._wait(waiting, question)
        except WireError as error:
            metrics.messages.add("in", "malformed" if error.question is None else error.question.name)
            self._refusals.malformed(error, is_text)
        except GatewayError as error:
            self.refuse(question, error)
        except Exception:
            self._contain(question, is_text)
        finally:
            metrics.handle_seconds.observe(perf_counter() - begun_at)
        return None

    async def _hear_when_there_is_room(self, handler: Handler, message: object, question: Question) -> None:
        """The writer is behind: this link is not read on until it has caught up (DESIGN.md §4)."""
        await self.door.wait_for_room()
        if self.is_fenced:  # a newer link speaks for this client by now
            return
        if (waiting := handler(self, message, question)) is not None:
            await waiting

    async def _wait(self, waiting: Coroutine[Any, Any, None], question: Question) -> None:
        """Run a handler that must wait, within the deadline; what it raises is told or contained as for one that need not."""
        try:
            with trio.move_on_after(self._settings.handler_deadline_s) as deadline:
                await waiting
            if deadline.cancelled_caught:
                self.door.metrics.limits.add("link.handler_deadline_s")
                self._refusals.failed(question, DatabaseDown(), question.is_text)
                if self.principal is None:
                    self.close_soon(CloseCode.INTERNAL, "the database did not answer in time")
        except GatewayError as error:
            self.refuse(question, error)
        except Exception:
            self._contain(question, question.is_text)

    def _contain(self, question: Question | None, is_text: bool) -> None:
        self.door.metrics.errors.add("link")
        log.exception("a handler failed", kind=self.kind.value, session_id=self.session_id, message=question.name if question else None)
        self._refusals.failed(question, Internal(), is_text)
        self.close_soon(CloseCode.INTERNAL, "internal server error")

    def put(self, is_text: bool, payload: bytes, name: str) -> None:
        """Send one whole message, counted as `name`."""
        self.put_frame(data_frame(TEXT if is_text else BINARY, payload), len(payload), name)

    def _tell_presence(self) -> None:
        if self.principal is None:
            return
        code, reason = self._goodbye or (1006, "connection lost")
        if code in OFFENCES:
            self.door.authentication.offended(self.client_id, self.address)
        self.door.presence.link_closed(self.client_id, self.generation, self.session_id, int(code), reason)
        about = {"kind": self.kind.value, "client_id": self.client_id, "session_id": self.session_id}
        log.info("link closed", **about, code=int(code), reason=reason)
