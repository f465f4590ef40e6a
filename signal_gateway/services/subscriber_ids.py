"""IMEI, IMSI and ICCID: kept by their last four characters and a digest, never whole (C-36)."""

import hmac
from collections.abc import Mapping
from typing import Any

from signal_gateway.domain.device import SubscriberId

FIELDS = frozenset({"imei", "imsi", "iccid"})
LAST_CHARS = 4
GENERATION_IDS = 16_384
"""Ids remembered in one generation: some 5 MiB."""
TELLING_CHARS_MAX = 8
"""An id this short would be half told by its last four characters: none are kept."""


class SubscriberIds:
    """Redacts subscriber ids. Equal ids have equal digests, so a SIM can be followed from phone to phone without being known."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        # A phone tells the same ids with every heartbeat. Two generations bound what is remembered, and keep what is asked for.
        self._young: dict[str, SubscriberId] = {}
        self._old: dict[str, SubscriberId] = {}

    def redact(self, text: str) -> SubscriberId:
        """What may be kept of one id. Remembered in memory for the next time, for as many as GENERATION_IDS or twice as many."""
        kept = self._young.get(text)
        if kept is None:
            kept = self._old.get(text) or self._redacted(text)
            if len(self._young) >= GENERATION_IDS:
                self._old, self._young = self._young, {}
            self._young[text] = kept
        return kept

    def _redacted(self, text: str) -> SubscriberId:
        digest = hmac.digest(self._pepper, b"subscriber id\0" + text.encode("utf-8", "surrogatepass"), "sha256").hex()
        return SubscriberId(text[-LAST_CHARS:] if len(text) > TELLING_CHARS_MAX else "", digest)

    def redact_data(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The same object, every `imei`, `imsi` and `iccid` in it, however deep, as `{"last_four", "digest"}`."""
        return {name: self._redact_id(value) if name.lower() in FIELDS else self._walk(value) for name, value in data.items()}

    def _walk(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self.redact_data(value)
        if isinstance(value, list | tuple):
            return [self._walk(item) for item in value]
        return value

    def _redact_id(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, list | tuple):
            return [self._redact_id(item) for item in value]
        kept = self.redact(str(value))
        return {"last_four": kept.last_four, "digest": kept.digest}
