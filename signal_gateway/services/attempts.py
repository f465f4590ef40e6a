"""Attempts to authenticate: who failed too often (H04), and what the audit trail tells of it (S-17)."""

from collections.abc import Callable

import trio

from signal_gateway.domain.errors import RateLimited
from signal_gateway.domain.failed_attempts import FailedAttempts, counted_address
from signal_gateway.domain.rate_limit import Rate, TokenBucket
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.records import AuditEntry, audit_row

log = logger("auth")

WINDOW_S = 60.0
AUDITED_REFUSALS_BURST = 100


class Attempts:
    """Counts failures per (id, address) and per address, offences per (id, address), and writes outcomes into the audit trail.

    Nobody can lock another out: a failure counts against the address that it came from. Tables are bounded, and so are the lines
    that refusals add to the audit trail and the log, from however many addresses they come.
    """

    def __init__(
        self,
        writer: BatchWriter,
        metrics: Metrics,
        wall_ms: Callable[[], int],
        *,
        per_id_per_minute: int = 5,
        per_address_per_minute: int = 10,
        offences_per_minute: int = 5,
        entries_max: int = 10_000,
        audited_refusals_per_s: float = 10.0,
    ) -> None:
        self._writer = writer
        self._limits = metrics.limits
        self._refused = metrics.counter(
            "authentications_refused_total", "Attempts to authenticate that failed, by what was wrong.", ("outcome",)
        )
        self._wall_ms = wall_ms
        self._of_id = FailedAttempts(per_id_per_minute, WINDOW_S, entries_max)
        self._of_address = FailedAttempts(per_address_per_minute, WINDOW_S, entries_max)
        self._offences = FailedAttempts(offences_per_minute, WINDOW_S, entries_max)
        self._audited = TokenBucket(Rate(audited_refusals_per_s, AUDITED_REFUSALS_BURST), 0.0)

    def check_address(self, address: str) -> None:
        """Raise RateLimited when too many attempts from this address failed within the last minute."""
        wait_s = self._of_address.wait_s(counted_address(address), trio.current_time())
        if wait_s > 0:
            self._limits.add("security.max_failed_auth_per_ip_per_minute")
            raise RateLimited("failed_auth", wait_s)

    def check(self, client_id: str, address: str) -> None:
        """The same, or when this address failed too often with this id, or the id's links from there had to be ended too often."""
        self.check_address(address)
        who, now_s = (client_id, counted_address(address)), trio.current_time()
        if (wait_s := self._of_id.wait_s(who, now_s)) > 0:
            self._limits.add("auth.max_failed_per_id_per_minute")
            raise RateLimited("failed_auth", wait_s)
        if (wait_s := self._offences.wait_s(who, now_s)) > 0:
            self._limits.add("security.max_offences_per_minute")
            raise RateLimited("offending", wait_s)

    def failed(self, action: str, client_id: str, address: str, outcome: str) -> None:
        """An attempt failed: count it against id and address, and write it down."""
        now_s = trio.current_time()
        counted = counted_address(address)
        forgotten = self._of_id.forgotten + self._of_address.forgotten
        self._of_id.add((client_id, counted), now_s)
        self._of_address.add(counted, now_s)
        if self._of_id.forgotten + self._of_address.forgotten > forgotten:
            self._limits.add("auth.failed_attempts_kept")
        self.refused(action, client_id, address, outcome)

    def offended(self, client_id: str, address: str) -> None:
        """A link of this client ended by what it said. Who offends again and again is kept out before anything is looked up for it."""
        forgotten = self._offences.forgotten
        self._offences.add((client_id, counted_address(address)), trio.current_time())
        if self._offences.forgotten > forgotten:
            self._limits.add("auth.failed_attempts_kept")

    def refused(self, action: str, client_id: str, address: str, outcome: str) -> None:
        """Write down what was refused. `outcome` is for the audit trail; the asker is told less."""
        self._refused.add(outcome)
        if self._audited.take(trio.current_time()) > 0:
            self._limits.add("auth.audited_refusals_per_s")
            return
        log.warning("authentication refused", action=action, client_id=client_id, address=address, outcome=outcome)
        self._writer.put([audit_row(self._entry(action, client_id, address, outcome))])

    def accepted(self, action: str, client_id: str, address: str) -> None:
        """An attempt that changed something succeeded."""
        self._writer.put([audit_row(self._entry(action, client_id, address, "ok"))])

    def _entry(self, action: str, client_id: str, address: str, outcome: str) -> AuditEntry:
        return AuditEntry(self._wall_ms(), client_id, action, client_id, outcome, address)
