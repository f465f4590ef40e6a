"""IMEI, IMSI and ICCID: kept by their last four characters and a digest, never whole (C-36)."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from signal_gateway.domain.device import SubscriberId

FIELDS = frozenset({"imei", "imsi", "iccid"})
LAST_CHARS = 4
GENERATION_IDS = 16_384
"""Ids remembered in one generation: some 5 MiB."""
TELLING_CHARS_MAX = 8
"""An id this short would be half told by its last four characters: none are kept."""
DIGESTS_MAX = 256
"""Ids of one object that are told from each other. A device has two or three; a digest costs 2 µs, and 1 MiB may name 200,000 (H12)."""
_UNTOLD = {"last_four": "", "digest": ""}
_WALKED = (dict, list, tuple)
"""What may hold an id somewhere inside. Everything else is kept as it is, without a call: a message may have 500,000 numbers (H12)."""


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
        """The same object, every `imei`, `imsi` and `iccid` in it, however deep, as `{"last_four", "digest"}`.

        Both are empty where more than DIGESTS_MAX were told before.
        """
        return _Redaction(self).data(data)


class _Redaction:
    """One object on its way through the redaction, and how many digests it may still cost."""

    def __init__(self, ids: SubscriberIds) -> None:
        self._ids = ids
        self._digests_left = DIGESTS_MAX

    def data(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._id(value) if name.lower() in FIELDS else self._walk(value) if isinstance(value, _WALKED) else value
            for name, value in data.items()
        }

    def _walk(self, value: Mapping[str, Any] | Sequence[Any]) -> Any:
        if isinstance(value, Mapping):
            return self.data(value)
        return [self._walk(item) if isinstance(item, _WALKED) else item for item in value]

    def _id(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, list | tuple):
            return [self._id(item) for item in value]
        if not self._digests_left:
            return _UNTOLD
        self._digests_left -= 1
        kept = self._ids.redact(str(value))
        return {"last_four": kept.last_four, "digest": kept.digest}
