"""What a log line may never show: secrets, phone numbers, texts, and line breaks of a peer's making (H02, H30)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "***"
VALUE_CHARS_MAX = 16_384
"""Characters of one value in a log line; a traceback is kept whole."""
KNOWN_SECRET_CHARS_MIN = 4
"""A configured secret shorter than this is not searched for: it would blot out half of every line."""

_SECRET_KEYS = frozenset(
    {
        "api_key",
        "auth_token",
        "authorization",
        "device_key",
        "enrolment_key",
        "key",
        "password",
        "pepper",
        "secret",
        "token",
        "token_secret",
    }
)
_TEXT_KEYS = frozenset({"body", "content", "sms_text", "text", "ussd_code"})
_ID_KEYS = frozenset({"client_id", "device_id", "message_id", "request_id", "room_id", "session_id", "timestamp"})
"""Ids are what an operator looks a device up by, even where its owner chose them to look like a number."""

_OURS = frozenset({"category", "level", "timestamp"})
"""Written by the code itself, in every line."""

_SECRET_PATTERNS = (
    (re.compile(r"(sgk_[A-Za-z0-9]+_)[A-Za-z0-9_\-]+"), rf"\1{HIDDEN}"),
    (
        re.compile(r"(?i)\b((?:api_key|auth_token|device_key|password|token_secret|token)[\"']?\s?[=:]\s?[\"']?)[^\s&\"',;}]+"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)(authorization[\"']?\s?[=:]\s?[\"']?(?:bearer |basic )?)[^\s\"',;}]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer[ .])[A-Za-z0-9._~+/=\-]+"), rf"\1{HIDDEN}"),
    # Whatever begins as a JSON Web Token does, a part of one too. To ask for its dots would read all that follows again for each "eyJ-".
    (re.compile(r"\beyJ[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*){0,2}"), HIDDEN),
)
_MAY_BE_SECRET = re.compile(r"(?i)sgk_|api_key|device_key|password|token|authorization|bearer|eyJ")
"""In whatever none of the patterns can change, this finds nothing: most lines are done after one look."""
_NUMBER = re.compile(r"(?<![\w.\-])\+?\d{5,17}(\d{2})(?![\w\-])")
_BREAKS = str.maketrans(
    {code: f"\\x{code:02x}" for code in [*range(0x20), *range(0x7F, 0xA0)]}
    | {9: "\\t", 10: "\\n", 13: "\\r", 0x2028: "\\u2028", 0x2029: "\\u2029"}
)
_BREAKS_WITHIN = {code: escape for code, escape in _BREAKS.items() if code != ord("\n")}
"""For a text of lines: its own breaks stay, and whatever else some reader takes for one does not."""


class Redactor:
    """Cleans the values of log lines. Knows the configured secrets by heart, and the rest by their form."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= KNOWN_SECRET_CHARS_MIN}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def event(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of one line, safe to write. Line breaks inside of values are escaped, but for `exception`, a text of ours in lines."""
        return {key if key.isidentifier() else self._text(key): self._field(key, value) for key, value in fields.items()}

    def text(self, text: str) -> str:
        """One text without secrets and phone numbers; its line breaks stay."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        if _MAY_BE_SECRET.search(text) is not None:
            for pattern, replacement in _SECRET_PATTERNS:
                text = pattern.sub(replacement, text)
        return _NUMBER.sub(rf"{HIDDEN}\1", text)

    def _field(self, key: str, value: Any) -> Any:
        if key in _OURS:
            return value
        name = key.lower()
        if name in _SECRET_KEYS or name in _TEXT_KEYS:
            return HIDDEN
        if name == "exception" and isinstance(value, str):
            return self.text(value).translate(_BREAKS_WITHIN)
        if name in _ID_KEYS and isinstance(value, str):
            return _escaped(value if self._known is None else self._known.sub(HIDDEN, value))
        return self._value(value)

    def _value(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return self.event({str(key): item for key, item in value.items()})
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(item) for item in value]
        return self._text(value if isinstance(value, str) else str(value))

    def _text(self, text: str) -> str:
        return _escaped(self.text(text))


def _escaped(text: str) -> str:
    """`text` on one line, without control characters, and no longer than VALUE_CHARS_MAX."""
    cut = text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + "…"
    return cut if cut.isprintable() else cut.translate(_BREAKS)
