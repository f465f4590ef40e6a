"""What a link is told when it is not heard, and how often it may be wrong (CONTRACT.md §2, §8)."""

from collections import deque
from typing import Protocol

from protocol import dialect
from protocol.close_codes import CloseCode
from protocol.dialect import Fault, Question
from protocol.errors import AUTHENTICATION_FAILED, INVALID_MESSAGE_FORMAT, NOT_IMPLEMENTED, WireError
from signal_gateway.domain.errors import GatewayError, RateLimited
from signal_gateway.domain.principal import Principal
from signal_gateway.observe.metrics import Metrics

MINUTE_S = 60.0
RATE_ANSWER_EVERY_S = 1.0
"""At most one answer in so many seconds tells a link that it says too much."""
RATE_SETTINGS = {"data": "limits.data_per_s", "control": "limits.control_per_min", "signal": "limits.signal_per_min"}
"""By class of message, the setting under which a client that is over its rate is counted."""
REFUSED_FOR_GOOD = frozenset({"connect", "register"})
"""A link that gets these wrong before anybody vouched for it is closed."""


class Speaker(Protocol):
    """What refusing needs of a link."""

    @property
    def principal(self) -> Principal | None:
        """Whom it speaks for; None before authentication."""
        ...

    @property
    def heard_at(self) -> float:
        """When it was last heard, in Trio seconds."""
        ...

    def answer(self, question: Question, message: object) -> None:
        """Answer in the question's encoding."""
        ...

    def put(self, is_text: bool, payload: bytes, name: str) -> None:
        """Send one whole message, counted as `name`."""
        ...

    def close_soon(self, code: int, reason: str, retry_after_s: float | None = None) -> None:
        """Fence and close it."""
        ...


class Refusals:
    """Refuses on behalf of one link. Every refusal is counted by its stable reason."""

    __slots__ = ("_limits", "_link", "_malformed_at", "_reasons", "_told_rate_at")

    def __init__(self, link: Speaker, malformed_max: int, metrics: Metrics) -> None:
        self._link = link
        self._limits = metrics.limits
        self._reasons = metrics.refusals
        self._malformed_at: deque[float] = deque(maxlen=malformed_max)
        self._told_rate_at = float("-inf")

    def malformed(self, error: WireError, is_text: bool) -> None:
        """A message that cannot be read. Requests are refused in their own answer, all else by ERROR."""
        question: Question | None = error.question
        kind = error.kind
        if self._link.principal is None and kind is NOT_IMPLEMENTED:
            self.unauthenticated(question, is_text)
            return
        refusal = dialect.refusal(question, kind.status, error.message) if question is not None and kind.status == 400 else None
        if question is not None and refusal is not None:
            self._reasons.add(error.reason)
            self._link.answer(question, refusal)
            if self._link.principal is None and question.name in REFUSED_FOR_GOOD:
                self._link.close_soon(CloseCode.UNAUTHORISED, "not authenticated")
        else:
            self.fault(question, is_text, Fault(kind.status, kind.type, kind.code, error.reason, error.message, error.details))
        if kind is INVALID_MESSAGE_FORMAT:
            self._count_malformed()

    def too_often(self, question: Question, wait_s: float) -> None:
        """A client is over the rate of its class: told at most once a second."""
        self._limits.add(RATE_SETTINGS[question.rate_class])
        if self._link.heard_at - self._told_rate_at >= RATE_ANSWER_EVERY_S:
            self._told_rate_at = self._link.heard_at
            self.refused(question, RateLimited(question.rate_class, wait_s), question.is_text)

    def failed(self, question: Question | None, error: GatewayError, is_text: bool) -> None:
        """The gateway could not do what was asked. A request is refused in its own answer (S-14, S-16), all else by ERROR."""
        refusal = dialect.refusal(question, error.status, error.message) if question is not None else None
        if question is None or refusal is None:
            self.refused(question, error, is_text)
            return
        self._reasons.add(error.reason)
        self._link.answer(question, refusal)

    def forget_link(self) -> None:
        """The link has ended: nothing is refused any more, and nothing keeps it in memory."""
        del self._link

    def unheard(self, question: Question) -> None:
        """A right message that this link has no handler for: not yet, or not served."""
        if self._link.principal is None:
            self.unauthenticated(question, question.is_text)
            return
        kind, message = NOT_IMPLEMENTED, f"{question.name} is not served here"
        if (refusal := dialect.refusal(question, kind.status, message)) is not None:
            self._reasons.add("not_implemented")
            self._link.answer(question, refusal)
            return
        self.fault(question, question.is_text, Fault(kind.status, kind.type, kind.code, "not_implemented", message))

    def unauthenticated(self, question: Question | None, is_text: bool) -> None:
        """Nobody has vouched for this link yet."""
        kind = AUTHENTICATION_FAILED
        self.fault(question, is_text, Fault(kind.status, kind.type, kind.code, "not_authenticated", "CONNECT or REGISTER first"))

    def refused(self, question: Question | None, error: GatewayError, is_text: bool) -> None:
        """What a service refused."""
        fault = Fault(error.status, error.type, error.code, error.reason, error.message, error.details, error.retry_after_s)
        self.fault(question, is_text, fault)

    def fault(self, question: Question | None, is_text: bool, fault: Fault) -> None:
        """An ERROR message, in the encoding of its question, or as `is_text` says where there is none."""
        self._reasons.add(fault.reason)
        self._link.put(question.is_text if question is not None else is_text, dialect.error(question, is_text, fault), "error")

    def _count_malformed(self) -> None:
        """Ten malformed messages in a minute end the link."""
        now, times = self._link.heard_at, self._malformed_at
        times.append(now)
        if times and len(times) == times.maxlen and now - times[0] < MINUTE_S:
            self._limits.add("security.max_malformed_per_minute")
            self._link.close_soon(CloseCode.MALFORMED, "too many malformed messages")
