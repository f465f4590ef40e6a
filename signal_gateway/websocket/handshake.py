"""Who asks for a link, and whether it is a WebSocket that we speak (CONTRACT.md §1; RFC 6455 §4.2).

We answer ourselves: no extension is ever agreed on (C-60), and trio-websocket is called in only by links that need it.
"""

import base64
import hashlib
from urllib.parse import urlsplit

from protocol.errors import WireError
from protocol.payload import read_json
from signal_gateway.domain.device import DeviceDescription
from signal_gateway.domain.ids import is_client_id
from signal_gateway.domain.principal import LinkKind
from signal_gateway.websocket.request_head import Refused, Request

CONSOLE_SUBPROTOCOL = "signal-gateway.v1"
_BEARER_SUBPROTOCOL = "bearer."
_UPGRADE_HEADERS = ("host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol")
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_BEARER = "bearer "
_STATUS_WORDS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    409: "Conflict",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


def check_upgrade(request: Request) -> None:
    """Raise Refused for all that is not an upgrade of `/ws`: our plain answers, and faults that RFC 6455 §4.2.1 names."""
    if request.path == "/health" and request.method in ("GET", "HEAD"):
        raise Refused(200, "health", "ok")
    if request.path != "/ws":
        raise Refused(404, "not_found", "there is /ws here, and /health")
    headers = request.headers
    upgrades = [word.strip().lower() for word in headers.get("upgrade", "").split(",")]
    connection = [word.strip().lower() for word in headers.get("connection", "").split(",")]
    if request.method != "GET" or "websocket" not in upgrades or "upgrade" not in connection:
        raise Refused(426, "upgrade_required", "speak WebSocket here (RFC 6455)", {"Upgrade": "websocket"})
    if headers.get("sec-websocket-version") != "13":
        raise Refused(426, "bad_websocket_version", "WebSocket version 13 is spoken here", {"Sec-WebSocket-Version": "13"})
    if not all(headers.get(name, "").isascii() for name in _UPGRADE_HEADERS):
        raise Refused(400, "bad_request", "the headers of an upgrade are ASCII")
    if "host" not in headers or not _is_key(headers.get("sec-websocket-key", "")):
        raise Refused(400, "bad_request", "an upgrade needs the headers Host and Sec-WebSocket-Key, which has 16 bytes in base64")


def upgrade_answer(request: Request) -> bytes:
    """The answer that accepts a checked upgrade (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1(request.headers["sec-websocket-key"].encode() + _ACCEPT_GUID, usedforsecurity=False).digest()
    lines = (b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: ")
    return b"\r\n".join(lines) + base64.b64encode(digest) + b"\r\n\r\n"


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except ValueError:
        return False


def kind_of(request: Request) -> LinkKind:
    """Who asks: the first row of CONTRACT.md §1 that fits."""
    headers = request.headers
    if "api_key" in request.query or "queue-name" in headers or "device-info" in headers:
        return LinkKind.PHONE
    offered = [word.strip() for word in headers.get("sec-websocket-protocol", "").split(",")]
    is_console = any(word == CONSOLE_SUBPROTOCOL or word.startswith(_BEARER_SUBPROTOCOL) for word in offered)
    if is_console or headers.get("authorization", "").lower().startswith(_BEARER):
        return LinkKind.CONSOLE
    return LinkKind.AGENT


def phone_key(request: Request) -> str:
    """The key of a phone: header `Authorization: Bearer`, or query `api_key` as in seed 000. Empty when there is none."""
    authorization = request.headers.get("authorization", "")
    if authorization.lower().startswith(_BEARER):
        return authorization[len(_BEARER) :].strip()
    return request.query.get("api_key", "")


def describe_phone(request: Request) -> tuple[DeviceDescription, bool]:
    """The phone of header Device-Info, and whether it wants a device key. Raises Refused(400)."""
    text = request.headers.get("device-info")
    if text is None:
        raise Refused(400, "bad_device_info", "the header Device-Info is missing")
    try:
        info = read_json(text.encode())
    except WireError as error:
        raise Refused(400, "bad_device_info", f"the header Device-Info is not JSON that can be read: {error.reason}") from error
    if not isinstance(info, dict) or not isinstance(info.get("device_id"), str):
        raise Refused(400, "bad_device_info", "the header Device-Info has no device_id")
    device_id: str = info["device_id"]
    if not is_client_id(device_id):
        raise Refused(400, "bad_device_info", "device_id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")

    def word(name: str) -> str | None:
        value = info.get(name)
        return value[:128] if isinstance(value, str) and value and value.isprintable() else None

    queue_name = request.headers.get("queue-name") or device_id
    description = DeviceDescription(
        device_id=device_id,
        queue_name=queue_name[:255],
        manufacturer=word("manufacturer"),
        model=word("model"),
        device_group=word("device_group"),
        sitename=word("sitename"),
        info=info,
    )
    return description, info.get("wants_device_key") is True


def check_origin(request: Request, allowed: tuple[str, ...], own_ports: frozenset[int], believes_any: bool) -> None:
    """Raise Refused(403) for a browser of another site (H01). No Origin is a device, and fine.

    `allowed` has exact origins; `"self"` is the host of this request on any of our ports; `"*"` is any of them, where
    `believes_any` says that this gateway may believe it: on loopback.
    """
    origin = request.headers.get("origin")
    if origin is None or ("*" in allowed and believes_any) or (origin in allowed and "://" in origin):
        return
    if "self" in allowed and _is_own(origin, request.headers["host"], own_ports):
        return
    raise Refused(403, "bad_origin", "this origin is not allowed")


def _is_own(origin: str, host: str, own_ports: frozenset[int]) -> bool:
    """Whether `origin` is the host of this request, on the port of this request or on one of ours."""
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
        their_port, our_port = theirs.port, ours.port
    except ValueError:
        return False
    default = {"http": 80, "https": 443}.get(theirs.scheme)
    if default is None or not theirs.hostname or theirs.hostname != ours.hostname or "@" in host:
        return False
    # A browser writes an origin in one form: scheme, host in lower case, and port where it is another than the default. What only
    # means the same is a trick, and reading is more generous than comparing: the Kelvin sign is "k" in lower case (RFC 6454 §6.2).
    written = f"[{theirs.hostname}]" if ":" in theirs.hostname else theirs.hostname
    if origin != f"{theirs.scheme}://{written}" + (f":{their_port}" if their_port is not None else ""):
        return False
    port = their_port or default
    return port in own_ports or port == (our_port or default)


def plain_answer(refused: Refused, is_head: bool = False) -> bytes:
    """One plain HTTP response that ends the connection."""
    body = (refused.text + "\n").encode()
    lines = [
        f"HTTP/1.1 {refused.status} {_STATUS_WORDS[refused.status]}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(f"{name}: {value}" for name, value in refused.headers.items()),
    ]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (b"" if is_head else body)
