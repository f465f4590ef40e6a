"""The head of a request: read within bounds (CONTRACT.md §1; RFC 9112 §2 to §5).

We read it ourselves, so that a slow, large or broken one costs little.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import h11
import msgspec
import trio

_READ_BYTES = 4096
_PLAIN_HEAD = re.compile(
    rb"([A-Z]{1,16}) ([!-~]+) HTTP/1\.[01]\r\n"
    rb"((?:[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
).fullmatch
_PLAIN_PATH = re.compile(r"(?:/[0-9A-Za-z_.-]+)+|/").fullmatch


class HandshakeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the request that opens a link (H07, H08)."""

    seconds_max: float = 5.0
    """Seconds from the accepted connection to the end of the request's head."""
    bytes_max: int = 16_384
    """Bytes of a request's head."""
    headers_max: int = 64
    """Header fields of a request."""


class Refused(Exception):
    """This request gets a plain HTTP answer and no link. `text` is one line, safe to show; `reason` is a stable word for metrics."""

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.headers = headers or {}


class GoneAway(Exception):
    """The peer closed the connection before its request was whole. There is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request for an upgrade or for plain HTTP. Header names are lower case; of a repeated header all values, joined by commas."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    rest: bytes
    """Bytes that came right behind the head: the first frames of an eager client."""


async def read_request(transport: trio.abc.ReceiveStream, settings: HandshakeSettings) -> Request:
    """Read one request's head. Raises Refused (400, 408, 431) or GoneAway; every bound is a setting."""
    data = bytearray()
    with trio.move_on_after(settings.seconds_max):
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) >= settings.bytes_max:
                raise Refused(431, "handshake.bytes_max", f"the request's head is over {settings.bytes_max} bytes")
            try:
                chunk = await transport.receive_some(_READ_BYTES)
            except (OSError, trio.BrokenResourceError) as error:
                raise GoneAway from error
            if not chunk:
                raise GoneAway
            data += chunk
        if end + 4 > settings.bytes_max:
            raise Refused(431, "handshake.bytes_max", f"the request's head is over {settings.bytes_max} bytes")
        return parse_request(bytes(data[: end + 4]), bytes(data[end + 4 :]), settings.headers_max)
    raise Refused(408, "handshake.seconds_max", f"no whole request within {settings.seconds_max:g} s")


def parse_request(head: bytes, rest: bytes, headers_max: int) -> Request:
    """One whole head. Raises Refused(400) for what is not HTTP/1.0 or 1.1, 431 for too many headers."""
    if head.count(b"\n") - 2 > headers_max:  # first: reading a thousand takes as long as fifty upgrades
        raise Refused(431, "handshake.headers_max", f"more than {headers_max} header fields")
    return plain_request(head, rest) or _any_request(head, rest)


def plain_request(head: bytes, rest: bytes) -> Request | None:
    """A head as nearly every client writes it; None for all else, of which h11 knows what it means or what is wrong with it.

    Plain has one Host, lines that end with CR and LF and do not go on in the next one, no control characters, and no body.
    """
    plain = _PLAIN_HEAD(head)
    if plain is None:
        return None
    method, target, fields = plain.groups()
    headers: dict[str, str] = {}
    for line in fields.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        key, text = name.lower().decode("ascii"), value.strip(b" \t").decode("utf-8", "replace")
        if key in headers:
            if key == "host":
                return None
            text = f"{headers[key]}, {text}"
        headers[key] = text
    if "host" not in headers or "content-length" in headers or "transfer-encoding" in headers:
        return None
    path, query = _target_of(target)
    return Request(method.decode("ascii"), path, query, headers, rest)


def _target_of(target: bytes) -> tuple[str, Mapping[str, str]]:
    text = target.decode("ascii")
    if _PLAIN_PATH(text):
        return text, {}
    try:
        parts = urlsplit(text)
        return parts.path, {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True, max_num_fields=32).items()}
    except ValueError as error:
        raise Refused(400, "bad_request", "the target of the request cannot be read") from error


def _any_request(head: bytes, rest: bytes) -> Request:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head))
    try:
        connection.receive_data(head)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise Refused(400, "bad_request", "this is not an HTTP request") from error
    if not isinstance(event, h11.Request) or event.http_version not in (b"1.0", b"1.1"):
        raise Refused(400, "bad_request", "this is not an HTTP request")
    headers: dict[str, str] = {}
    for name, value in event.headers:
        key, text = name.decode("ascii"), value.decode("utf-8", "replace")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    path, query = _target_of(event.target)
    return Request(event.method.decode("ascii"), path, query, headers, rest)
