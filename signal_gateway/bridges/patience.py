"""How often Cloudflare is asked again, and when it is left alone: attempts with backoff under one breaker."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio

from signal_gateway.bridges.cloudflare_api import CallFailed, Refused
from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.domain.breaker import Breaker
from signal_gateway.domain.errors import MediaDown
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics

T = TypeVar("T")

log = logger("media")

_REASONS = {
    "unreachable": "media_unreachable",
    "connection_lost": "media_unreachable",
    "timeout": "media_timeout",
    "failed": "media_failed",
    "limited": "media_limited",
    "garbled": "media_garbled",
    "not_accepted": "media_not_accepted",
}
"""Our words for a call's failure to the stable reason of MediaDown."""


class Patience:
    """Runs operations: each up to `attempts_max` times within `operation_s`, none while the breaker is open."""

    def __init__(self, settings: CloudflareSettings, metrics: Metrics, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._breaker = Breaker(settings.breaker)
        self._under_way = 0
        self._why = ""
        self._limits = metrics.limits
        self._retries = metrics.counter("media_retries_total", "Attempts at the media backend that were made again.")
        metrics.gauge("media_breaker_open", "1 while the media backend is left alone, else 0.", lambda: int(self.trouble() is not None))

    def trouble(self) -> str | None:
        """For health: None, or why the backend is left alone at the moment."""
        state = self._breaker.state(trio.current_time())
        return None if state == "closed" else f"{self._why}, {'left alone' if state == 'open' else 'about to be tried'}"

    async def run(self, work: Callable[[], Awaitable[T]], may_repeat: bool) -> T:
        """What `work` returns, in the end. `may_repeat`: it may also be done again when nobody knows whether it was done.

        Raises MediaDown with the reason of the last failure; Refused as `work` raised it.
        """
        if self._under_way >= self._settings.calls_max:
            self._limits.add("cloudflare.calls_max")
            raise MediaDown(reason="media_busy")
        self._under_way += 1
        try:
            return await self._attempts(work, may_repeat, trio.current_time() + self._settings.operation_s)
        finally:
            self._under_way -= 1

    async def _attempts(self, work: Callable[[], Awaitable[T]], may_repeat: bool, deadline_s: float) -> T:
        attempt = 1
        while True:
            try:
                return await self._attempt(work, deadline_s)
            except CallFailed as failed:
                wait_s = max(self._backoff_s(attempt), failed.retry_after_s)
                has_time = trio.current_time() + wait_s < min(deadline_s, trio.current_effective_deadline())
                if attempt >= self._settings.attempts_max or not has_time or not _may_repeat(failed, may_repeat):
                    if isinstance(failed, Refused):
                        raise
                    raise MediaDown(reason=_REASONS[failed.reason]) from None
            self._retries.add()
            await trio.sleep(wait_s)
            attempt += 1

    async def _attempt(self, work: Callable[[], Awaitable[T]], deadline_s: float) -> T:
        if not self._breaker.let_through(trio.current_time()):
            raise MediaDown(reason="media_left_alone")
        try:
            with trio.fail_at(deadline_s):
                result = await work()
        except trio.TooSlowError:
            self._limits.add("cloudflare.operation_s")
            failed = CallFailed("timeout")
            self._is_ill(failed)
            raise failed from None
        except Refused:
            self._is_well()
            raise
        except CallFailed as failed:
            self._is_ill(failed)
            raise
        except BaseException:  # cancelled: whoever asked has gone, and nobody knows how Cloudflare is
            self._breaker.gave_up()
            raise
        self._is_well()
        return result

    def _is_well(self) -> None:
        if self._breaker.state(trio.current_time()) != "closed":
            log.info("the media backend is well again")
        self._breaker.succeeded()

    def _is_ill(self, failed: CallFailed) -> None:
        """Whoever was limited met a bound of one session: that tells nothing of the backend."""
        if failed.reason == "limited":
            self._breaker.gave_up()
            return
        self._why = str(failed)
        if self._breaker.failed(trio.current_time()):
            self._limits.add("cloudflare.failures_max")
            log.warning("the media backend is left alone", why=str(failed), seconds=self._settings.open_s)

    def _backoff_s(self, attempts_made: int) -> float:
        most_s = min(self._settings.backoff_max_s, self._settings.backoff_first_s * 2 ** (attempts_made - 1))
        return self._random.uniform(0, most_s)


def _may_repeat(failed: CallFailed, work_may: bool) -> bool:
    if failed.reason == "not_accepted" or (isinstance(failed, Refused) and failed.reason != "not_connected"):
        return False
    return work_may or failed.was_done is False
