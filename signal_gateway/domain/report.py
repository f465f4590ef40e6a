"""What devices report, as it is filed (T-17 to T-35, C-25)."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Report(msgspec.Struct, frozen=True):
    """One filed report. `data` is the object as the device sent it, unknown fields included, subscriber ids redacted."""

    device_id: str
    type: str
    data: Mapping[str, Any]
    received_at: int
    """When we heard it: milliseconds since 1970, UTC."""
    reported_at: int | None = None
    """What the device's own clock said; milliseconds. Informational: it may be wrong by years (C-32)."""
    message_id: str | None = None
    """The command that it answers, where it says so."""
    id: int | None = None
    """The number it got in the file."""
