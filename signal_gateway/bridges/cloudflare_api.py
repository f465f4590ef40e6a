"""Cloudflare Realtime's Connection API, one plain call for each operation (S-41).

What is said here of shapes, codes and limits is documented at developers.cloudflare.com/realtime/sfu: "Connection API" and its schema
(realtime-api-2024-05-21.yaml), "Error codes", "Limits, timeouts, and quotas", "Negotiation and session lifecycle". A session is one peer
connection; there are no rooms, and nothing deletes a session: closing its tracks ends what it carries.
"""

import string
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import httpx2
import msgspec
import trio

from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.observe.metrics import Metrics

TRACKS_PER_CALL_MAX = 64
"""Tracks that one call may add ("Limits"); the same number is kept to when they are closed."""

_ERROR_CODE_CHARS_MAX = 64
_ERROR_CODE_CHARS = frozenset(string.ascii_lowercase + "_")


class Description(msgspec.Struct, frozen=True):
    """SDP, and what it is."""

    sdp: str
    type: Literal["offer", "answer"]


class Track(msgspec.Struct, frozen=True, rename="camel"):
    """TrackObject, with what became of it. `mid` names the transceiver of the session that was asked; `session_id` the publisher."""

    track_name: str = ""
    mid: str = ""
    session_id: str = ""
    status: str = ""
    """Of an inspected session: "active" or "inactive"."""
    error_code: str = ""


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What any of the operations answers. A 200 may hold tracks that failed."""

    session_id: str = ""
    session_description: Description | None = None
    tracks: tuple[Track, ...] = ()
    error_code: str = ""


class CallFailed(Exception):
    """A call that did not do what it should. `reason` is a word of ours, `error_code` Cloudflare's, neither holds a text or a secret."""

    def __init__(self, reason: str, status: int = 0, error_code: str = "", was_done: bool | None = None, retry_after_s: float = 0) -> None:
        super().__init__(" ".join(str(part) for part in (reason, status or "", error_code) if part))
        self.reason = reason
        self.status = status
        self.error_code = error_code
        self.was_done = was_done
        """False: certainly nothing was changed. None: nobody knows."""
        self.retry_after_s = retry_after_s


class Refused(CallFailed):
    """Cloudflare is well, and does not do this: an SDP that it cannot read, a session that is no more."""

    @property
    def is_gone(self) -> bool:
        """Whether the session is no more: 410 `session_error`, whose repetition "does not reconnect it"."""
        return self.status in (404, 410)


class CloudflareApi:
    """One method is one call: it is tried once, within `call_s`, and raises CallFailed. Connections are kept and shared.

    The secret goes into the Authorization header and nowhere else; redirects are not followed, so it goes to one place only.
    """

    def __init__(self, settings: CloudflareSettings, metrics: Metrics, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._limits = metrics.limits
        self._calls = metrics.counter("media_calls_total", "Calls of the media backend.", ("operation", "outcome"))
        self._seconds = metrics.histogram("media_call_seconds", "From a call of the media backend to the end of its answer.")
        self._root = f"{settings.base_url.rstrip('/')}/apps/{quote(settings.app_id, safe='')}/sessions"
        self._headers = {"Authorization": f"Bearer {settings.app_secret}", "Accept-Encoding": "identity"}
        self._client = httpx2.AsyncClient(
            transport=transport,
            timeout=httpx2.Timeout(None, connect=settings.connect_s),
            limits=httpx2.Limits(
                max_connections=settings.connections_max,
                max_keepalive_connections=settings.connections_max,
                keepalive_expiry=settings.idle_s,
            ),
        )

    async def new_session(self) -> str:
        """POST sessions/new without a body: 201 `{sessionId}`. No connection is made yet; a session that gets none ends by itself."""
        try:
            answer = await self._call("new_session", "POST", "/new")
        except Refused as refused:  # no member has said anything yet: it is the application, or the address, that is not accepted
            raise CallFailed("not_accepted", refused.status, refused.error_code, was_done=False) from None
        if not answer.session_id:
            raise self._garbled("new_session")
        return answer.session_id

    async def publish(self, session_id: str, offer_sdp: str) -> Answer:
        """POST tracks/new `{sessionDescription, autoDiscover}`: every track of the member's offer, under names that Cloudflare chooses.

        Returns its answer for the member (`session_description`) and the tracks. An offer of more than 64 media is refused here.
        """
        if f"\n{offer_sdp}".count("\nm=") > TRACKS_PER_CALL_MAX:
            raise Refused("refused", was_done=False)
        body = {"sessionDescription": {"type": "offer", "sdp": offer_sdp}, "autoDiscover": True}
        answer = await self._call("new_tracks", "POST", f"{_path(session_id)}/tracks/new", body)
        if answer.session_description is None or answer.session_description.type != "answer":
            raise self._garbled("new_tracks")
        return answer

    async def pull(self, session_id: str, publisher_session_id: str, track_names: Sequence[str]) -> Answer:
        """POST tracks/new `{tracks: [{location: "remote", sessionId, trackName}]}`, up to 64: tracks of another session.

        Returns an offer, which the member must answer (`renegotiate`) before anything else is asked for its session. Where no track
        could be had there is no offer; each track says why in `error_code`.
        """
        tracks = [{"location": "remote", "sessionId": publisher_session_id, "trackName": name} for name in track_names]
        return await self._call("new_tracks", "POST", f"{_path(session_id)}/tracks/new", {"tracks": tracks})

    async def renegotiate(self, session_id: str, answer_sdp: str) -> None:
        """PUT renegotiate `{sessionDescription}`: a member's answer to the offer of `pull`. An answer is never said twice."""
        body = {"sessionDescription": {"type": "answer", "sdp": answer_sdp}}
        await self._call("renegotiate", "PUT", f"{_path(session_id)}/renegotiate", body)

    async def close_tracks(self, session_id: str, mids: Sequence[str]) -> Sequence[str]:
        """PUT tracks/close `{tracks: [{mid}], force: true}`, up to 64: no media flows any more, no SDP is exchanged. Can be repeated.

        Returns the mids that are still open: those that failed or were not told of. One that was closed before counts as closed.
        """
        body = {"tracks": [{"mid": mid} for mid in mids], "force": True}
        answer = await self._call("close_tracks", "PUT", f"{_path(session_id)}/tracks/close", body)
        closed = {track.mid for track in answer.tracks if track.error_code in ("", "close_track_error")}
        return [mid for mid in mids if mid not in closed]

    async def open_tracks(self, session_id: str) -> Sequence[Track]:
        """GET the session: its tracks that are not closed."""
        answer = await self._call("get_session", "GET", _path(session_id))
        return [track for track in answer.tracks if track.status != "inactive"]

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def _call(self, operation: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        began_at = trio.current_time()
        outcome = "cancelled"
        try:
            with trio.fail_after(self._settings.call_s):
                answer = await self._exchange(operation, method, path, body)
            outcome = "ok"
        except trio.TooSlowError:
            self._limits.add("cloudflare.call_s")
            outcome = "timeout"
            raise CallFailed("timeout") from None
        except CallFailed as failed:
            outcome = failed.reason
            raise
        finally:
            self._calls.add(operation, outcome)
            self._seconds.observe(trio.current_time() - began_at)
        return answer

    async def _exchange(self, operation: str, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        content = None if body is None else msgspec.json.encode(body)
        headers = self._headers if content is None else {**self._headers, "Content-Type": "application/json"}
        try:
            async with self._client.stream(method, self._root + path, content=content, headers=headers) as response:
                return _read(response.status_code, response.headers, await self._body(operation, response))
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            raise CallFailed("unreachable", was_done=False) from None
        except httpx2.TransportError:  # its text may tell of the request
            raise CallFailed("connection_lost") from None

    async def _body(self, operation: str, response: httpx2.Response) -> bytes:
        """All of the answer. One that is too long is read to its end, within `call_s`, and not kept: to leave the library's generators
        before their end would leave their end to the garbage collector."""
        data, bytes_read = bytearray(), 0
        async for chunk in response.aiter_raw():
            bytes_read += len(chunk)
            if bytes_read <= self._settings.answer_bytes_max:
                data += chunk
        if bytes_read > self._settings.answer_bytes_max:
            self._limits.add("cloudflare.answer_bytes_max")
            raise self._garbled(operation)
        return bytes(data)

    def _garbled(self, operation: str) -> CallFailed:
        return CallFailed("garbled", error_code=operation)


def _read(status: int, headers: Mapping[str, str], data: bytes) -> Answer:
    """The answer, or what its status and `errorCode` say. Only words of the documented form are taken out of a failure."""
    try:
        answer = msgspec.json.decode(data, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = None
    code = "" if answer is None else _word(answer.error_code)
    if 200 <= status < 300 and answer is not None and not answer.error_code:
        return answer
    raise _failure(status, code, _seconds(headers.get("retry-after", "")))


def _failure(status: int, code: str, retry_after_s: float) -> CallFailed:
    """What a status and a code of "Error codes" mean for whoever asked."""
    if status in (401, 403) or code in ("unauthorized", "not_found"):
        return CallFailed("not_accepted", status, code, was_done=False)
    if status == 429 or code == "retryable_transient_error":
        return CallFailed("limited" if status == 429 else "failed", status, code, was_done=False, retry_after_s=retry_after_s)
    if status == 425:
        return Refused("not_connected", status, code, was_done=False, retry_after_s=retry_after_s)
    if status >= 500 or code in ("temporarily_unavailable_error", "transport_unavailable_error", "backend_error", "internal_error"):
        return CallFailed("failed", status, code, retry_after_s=retry_after_s)
    if status >= 400 or code:
        return Refused("refused", status, code, was_done=False)
    return CallFailed("garbled", status, code)


def _word(code: str) -> str:
    """An `errorCode` of the documented form, which may stand in a log; anything else is none."""
    return code if len(code) <= _ERROR_CODE_CHARS_MAX and _ERROR_CODE_CHARS.issuperset(code) else ""


def _path(session_id: str) -> str:
    return f"/{quote(session_id, safe='')}"


def _seconds(text: str) -> float:
    """Retry-After as seconds (RFC 9110 §10.2.3); its other form, a date, is not used by APIs and counts as none."""
    return float(text) if text.isascii() and text.isdigit() else 0.0
