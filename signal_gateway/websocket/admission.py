"""How many connections may be open, and how many of them without having said who they are (CONTRACT.md §1, §8; H07, H28).

An authenticated link counts towards `server.max_connections` alone: phones behind one carrier's address are many. What has not
authenticated counts towards its address and towards all; when that is full the oldest goes, for whoever is honest is quick.
Addresses count as in `counted_address`: an IPv6 host by its /64, of which it may take any address that it likes.
"""

import random
from collections import Counter
from collections.abc import Callable

import msgspec
import trio

from signal_gateway.domain.failed_attempts import counted_address
from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket.request_head import Refused

RETRY_AFTER_S = (2, 10)
"""Seconds: a refused client is told to come back after a random time between these, so that a herd spreads out (H25)."""
EVICTABLE_AFTER_S = 1.0
"""Seconds that an unauthenticated connection has in any case."""
EVICTS_NONE_S = 5.0
"""Seconds in which an address that had to give a place up takes none from others: who comes again at once would push all of them out."""


class SecuritySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may come, and how many at once."""

    rate_limit_enabled: bool = True
    """Whether the rates of [limits] hold. Benches raise limits; nobody should switch them off."""
    max_messages_per_minute: int = 100
    """Seed 003's one rate; read as limits.control_per_min unless [limits] sets that."""
    max_connections_per_ip: int = 64
    """Connections of one address that have not authenticated yet; an IPv6 /64 counts as one. 0 = no limit."""
    max_unauthenticated: int = 512
    """Connections in all that have not authenticated yet; at this number the oldest goes."""
    max_failed_auth_per_ip_per_minute: int = 10
    """Failed authentications of one address in a minute; then 429."""
    max_malformed_per_minute: int = 10
    """Malformed messages of one link in a minute; then close 4503. 0 = no limit."""
    max_offences_per_minute: int = 5
    """Links of one client from one address that ended with 1002, 1007, 1009 or 4503 in a minute; then 429. 0 = no limit."""
    unauthenticated_message_bytes: int = 8192
    """Bytes of a message before authentication."""
    allowed_origins: tuple[str, ...] = ("self",)
    """Origins of browsers that may connect: exact, or "self" = this host on any of our ports; "*" on loopback only."""


class Ticket:
    """One open connection's place. `on_evicted` ends the connection when its place is needed."""

    __slots__ = ("address", "authenticated", "entered_at", "on_evicted")

    def __init__(self, address: str, on_evicted: Callable[[], None]) -> None:
        self.address = address
        self.entered_at = trio.current_time()
        self.authenticated = False
        self.on_evicted = on_evicted


class Admission:
    """Counts connections and refuses those above the limits."""

    def __init__(self, settings: SecuritySettings, connections_max: int, metrics: Metrics) -> None:
        self._settings = settings
        self._connections_max = connections_max
        self._limits = metrics.limits
        self._waiting: dict[Ticket, None] = {}  # in order of arrival
        self._waiting_by_address: Counter[str] = Counter()
        self._evicted_at: dict[str, float] = {}  # by address, the latest last
        self._authenticated = 0
        metrics.gauge("connections_unauthenticated", "Open connections that have not authenticated.", lambda: len(self._waiting))

    def enter(self, address: str, on_evicted: Callable[[], None], counts_by_address: bool) -> Ticket:
        """A place for a new connection. Raises Refused 429 or 503. A proxy's own address is not counted: `move` is called later."""
        address = counted_address(address)
        if counts_by_address:
            self._check_address(address)  # first: who is over it must not push others out
        if len(self._waiting) >= self._settings.max_unauthenticated:
            self._make_room(address)
        ticket = Ticket(address if counts_by_address else "", on_evicted)
        self._waiting[ticket] = None
        self._waiting_by_address[ticket.address] += 1
        return ticket

    def move(self, ticket: Ticket, address: str) -> None:
        """The connection came through a proxy, from `address`. Raises Refused 429; or 503 for one whose place was taken meanwhile."""
        if ticket not in self._waiting:  # its head came in the instant in which it had to go: it would be counted and never leave
            raise _too_many_strangers()
        address = counted_address(address)
        self._check_address(address)
        self._forget_address(ticket.address)
        ticket.address = address
        self._waiting_by_address[address] += 1

    def check_connections(self) -> None:
        """Raise Refused 503 when there are as many links as `server.max_connections` allows, with a jittered Retry-After."""
        if self._authenticated + len(self._waiting) > self._connections_max:
            self._limits.add("server.max_connections")
            raise too_many("too_many_connections", "too many connections: come back later")

    def authenticated(self, ticket: Ticket) -> None:
        """The connection has said who it is, and waits no more."""
        if not ticket.authenticated and ticket in self._waiting:
            self._forget_waiting(ticket)
            ticket.authenticated = True
            self._authenticated += 1

    def leave(self, ticket: Ticket) -> None:
        """The connection has ended."""
        if ticket.authenticated:
            ticket.authenticated = False
            self._authenticated -= 1
        elif ticket in self._waiting:
            self._forget_waiting(ticket)

    def _check_address(self, address: str) -> None:
        limit = self._settings.max_connections_per_ip
        if limit and self._waiting_by_address[address] >= limit:
            self._limits.add("security.max_connections_per_ip")
            raise Refused(429, "too_many_unauthenticated", "too many unauthenticated connections from your address", retry_after())

    def _make_room(self, address: str) -> None:
        self._limits.add("security.max_unauthenticated")
        oldest, now = next(iter(self._waiting)), trio.current_time()
        takes_from_others = oldest.address != address
        has_just_lost_one = now - self._evicted_at.get(address, float("-inf")) < EVICTS_NONE_S
        if (takes_from_others and has_just_lost_one) or now - oldest.entered_at < EVICTABLE_AFTER_S:
            raise _too_many_strangers()
        self._forget_waiting(oldest)
        self._remember_eviction(oldest.address, now)
        oldest.on_evicted()

    def _remember_eviction(self, address: str, now: float) -> None:
        if not address:  # still a proxy's own; whose the connection is was not read yet
            return
        self._evicted_at.pop(address, None)
        self._evicted_at[address] = now
        if len(self._evicted_at) > self._settings.max_unauthenticated:
            del self._evicted_at[next(iter(self._evicted_at))]

    def _forget_waiting(self, ticket: Ticket) -> None:
        del self._waiting[ticket]
        self._forget_address(ticket.address)

    def _forget_address(self, address: str) -> None:
        self._waiting_by_address[address] -= 1
        if self._waiting_by_address[address] <= 0:
            del self._waiting_by_address[address]


def too_many(reason: str, text: str) -> Refused:
    """A 503 that asks to come back after a random while."""
    return Refused(503, reason, text, retry_after())


def _too_many_strangers() -> Refused:
    return too_many("too_many_unauthenticated", "too many unauthenticated connections: come back later")


def retry_after() -> dict[str, str]:
    """The header that asks to come back after a random while."""
    return {"Retry-After": str(random.randint(*RETRY_AFTER_S))}
