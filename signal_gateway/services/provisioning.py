"""What a phone reads out of a QR code to find its gateway (T-36)."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from signal_gateway.domain.phone_settings import PhoneSettings


def provisioning_data(
    key: str, websocket_url: str, settings: PhoneSettings, now_ms: int, device_group: str = "", sitename: str = "", queue_name: str = ""
) -> dict[str, Any]:
    """The object of T-36: where to connect, with which key, the 19 settings, and when it was made, in UTC."""
    made_at = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {
        "device_group": device_group,
        "sitename": sitename,
        "websocket_url": websocket_url,
        "api_key": key,
        "queue_name": queue_name,
        **msgspec.structs.asdict(settings),
        "timestamp": made_at,
    }


def provisioning_text(data: dict[str, Any]) -> str:
    """The same as it stands in the code: JSON without spaces, for a smaller code is read more easily."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
