"""A stand-in for Cloudflare Realtime that keeps to its documented API: sessions, tracks, order of negotiation, limits, error codes.

It carries no media. `answer` is the whole API over nothing; `run` serves it over a socket (fake_http.py), with faults on demand:

    fake = FakeCloudflare("app", "secret")
    address = await nursery.start(fake.run)     # CloudflareSettings(base_url=f"{address}/v1", app_id="app", app_secret="secret")
    fake.faults += [Fault("status", status=503), Fault("cut")]

What the documentation leaves open, and how it is here: the largest body is 1 MiB, a 429 has a Retry-After of a second, tracks are found
as soon as they are published.
"""

import json
import re
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import trio

from signal_gateway.testing.fake_http import Fault, Handled, Seen, serve_http

CALLS_PER_SECOND_MAX = 50
TRACKS_PER_CALL_MAX = 64
BODY_BYTES_MAX = 1_048_576

Body = dict[str, Any]
_SECTION = re.compile(r"^m=(?P<kind>audio|video)[^\n]*\n(?P<lines>(?:[^m][^\n]*\n?)*)", re.MULTILINE)
_MID = re.compile(r"^a=mid:(\S+)", re.MULTILINE)


class _Refusal(Exception):
    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(code)
        self.status, self.code, self.description = status, code, description


@dataclass
class FakeTrack:
    """A track of one session."""

    mid: str
    name: str
    publisher: str | None = None
    """The session whose track this is; None: it is this session's own."""
    status: str = "active"

    def object(self) -> Body:
        """As GET shows it."""
        remote = {} if self.publisher is None else {"sessionId": self.publisher}
        return {"location": "remote" if remote else "local", "mid": self.mid, "trackName": self.name, "status": self.status, **remote}


@dataclass
class FakeSession:
    """One session: its tracks by mid, and whether an offer of ours waits for its answer."""

    tracks: dict[str, FakeTrack] = field(default_factory=dict[str, FakeTrack])
    awaits_answer: bool = False
    calls_at: deque[float] = field(default_factory=deque[float])

    def of_its_own(self, name: str) -> FakeTrack | None:
        """The track that it publishes under `name`."""
        return next((each for each in self.tracks.values() if each.name == name and not each.publisher and each.status == "active"), None)


class FakeCloudflare:
    """`sessions` is the state; `seen` what was asked, in order; `connections` how many were made; `faults` are used up one a call."""

    def __init__(self, app_id: str, app_secret: str) -> None:
        self.app_id = app_id
        self.app_secret = app_secret
        self.sessions: dict[str, FakeSession] = {}
        self.seen: list[Seen] = []
        self.connections = 0
        self.faults: deque[Fault] = deque()
        self.asked = trio.Event()
        """Set, and another one in its place, when something was asked and done."""
        self.sdp_more = ""
        """Lines at the end of all SDP."""
        self._numbers = iter(range(1, 1_000_000))

    async def run(self, tls: ssl.SSLContext | None = None, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on a free port of loopback until cancelled; started with the address, below which the API is at `/v1`."""
        await serve_http(self, task_status, tls)

    def expire(self, session_id: str) -> None:
        """A session that was never connected, or whose connection was lost, is no more."""
        del self.sessions[session_id]

    def open_tracks(self, session_id: str) -> list[str]:
        """The names of the session's tracks that are not closed."""
        return [track.name for track in self.sessions[session_id].tracks.values() if track.status == "active"]

    def connected(self) -> None:
        """Somebody has connected."""
        self.connections += 1

    def answer(self, seen: Seen) -> Handled:
        """What the API says: status, headers, body."""
        self.seen.append(seen)
        self.asked.set()
        self.asked = trio.Event()
        try:
            status, body = self._answer(seen)
        except _Refusal as refusal:
            retry = {"Retry-After": "1"} if refusal.status == 429 else {}
            return refusal.status, retry, json.dumps({"errorCode": refusal.code, "errorDescription": refusal.description}).encode()
        return status, {}, json.dumps(body).encode()

    def _answer(self, seen: Seen) -> tuple[int, Body]:
        if seen.headers.get("authorization") != f"Bearer {self.app_secret}":
            raise _Refusal(401, "unauthorized", "The app secret was not accepted")
        match seen.path.strip("/").split("/"):
            case ["v1", "apps", app_id, "sessions", *rest] if app_id == self.app_id:
                return self._of_app(seen, rest)
            case _:
                raise _Refusal(404, "not_found", "App not found")

    def _of_app(self, seen: Seen, rest: list[str]) -> tuple[int, Body]:
        match seen.method, rest:
            case "POST", ["new"]:
                return 201, {"sessionId": self._new_session()}
            case "GET", [session_id]:
                session = self._session(session_id)
                return 200, {"tracks": [track.object() for track in session.tracks.values()], "dataChannels": []}
            case "POST", [session_id, "tracks", "new"]:
                return 200, self._new_tracks(session_id, _body(seen))
            case "PUT", [session_id, "renegotiate"]:
                return 200, self._renegotiate(session_id, _body(seen))
            case "PUT", [session_id, "tracks", "close"]:
                return 200, self._close_tracks(session_id, _body(seen))
            case _:
                raise _Refusal(405, "invalid_params", "No such operation")

    def _new_session(self) -> str:
        session_id = f"{next(self._numbers):032x}"
        self.sessions[session_id] = FakeSession()
        return session_id

    def _session(self, session_id: str) -> FakeSession:
        session = self.sessions.get(session_id)
        if session is None:
            raise _Refusal(410, "session_error", "Session is not active")
        now_s = trio.current_time()
        while session.calls_at and session.calls_at[0] <= now_s - 1:
            session.calls_at.popleft()
        if len(session.calls_at) >= CALLS_PER_SECOND_MAX:
            raise _Refusal(429, "too_many_requests", "Too many requests for this session")
        session.calls_at.append(now_s)
        return session

    def _new_tracks(self, session_id: str, body: Body) -> Body:
        session = self._session(session_id)
        tracks = cast("list[Body]", body.get("tracks", []))
        places = {track.get("location") for track in tracks}
        if len(tracks) > TRACKS_PER_CALL_MAX or len(places) > 1:
            raise _Refusal(406, "invalid_params", "At most 64 tracks, all local or all remote")
        if session.awaits_answer:
            raise _Refusal(406, "invalid_session_description", "An answer is outstanding")
        if body.get("autoDiscover") or places == {"local"}:
            return self._publish(session, _sdp(body, "offer"), {str(track.get("mid")): str(track.get("trackName")) for track in tracks})
        return self._pull(session, tracks)

    def _publish(self, session: FakeSession, offer: str, names: Mapping[str, str]) -> Body:
        sections = [(section["kind"], mid[1]) for section in _SECTION.finditer(offer) if (mid := _MID.search(section["lines"]))]
        if not offer.startswith("v=0") or not sections or len(sections) > TRACKS_PER_CALL_MAX:
            raise _Refusal(406, "invalid_session_description", "The SDP cannot be read")
        fresh = [FakeTrack(mid, names.get(mid) or f"track-{next(self._numbers)}") for _, mid in sections if mid not in session.tracks]
        session.tracks |= {track.mid: track for track in fresh}
        return {
            "requiresImmediateRenegotiation": False,
            "tracks": [{"mid": track.mid, "trackName": track.name} for track in fresh],
            "sessionDescription": {"type": "answer", "sdp": _written(sections, "recvonly") + self.sdp_more},
        }

    def _pull(self, session: FakeSession, tracks: list[Body]) -> Body:
        results: list[Body] = []
        for wanted in tracks:
            publisher, name = str(wanted.get("sessionId")), str(wanted.get("trackName"))
            source = self.sessions.get(publisher, FakeSession()).of_its_own(name)
            result: Body = {"sessionId": publisher, "trackName": name}
            if source is None:
                results.append({**result, "errorCode": "not_found_track_error", "errorDescription": "Track not found"})
                continue
            mid = str(len(session.tracks))
            session.tracks[mid] = FakeTrack(mid, name, publisher)
            results.append({**result, "mid": mid})
        pulled = [result["mid"] for result in results if "mid" in result]
        if not pulled:
            return {"requiresImmediateRenegotiation": False, "tracks": results}
        session.awaits_answer = True
        offer = {"type": "offer", "sdp": _written([("video", mid) for mid in pulled], "sendonly") + self.sdp_more}
        return {"requiresImmediateRenegotiation": True, "tracks": results, "sessionDescription": offer}

    def _renegotiate(self, session_id: str, body: Body) -> Body:
        session = self._session(session_id)
        answer = _sdp(body, "answer")
        if not session.awaits_answer or not answer.startswith("v=0"):
            raise _Refusal(406, "invalid_session_description", "No offer waits for this answer")
        session.awaits_answer = False
        return {}

    def _close_tracks(self, session_id: str, body: Body) -> Body:
        session = self._session(session_id)
        if body.get("force") is not True:
            _sdp(body, "offer")
        results: list[Body] = []
        for mid in [str(track.get("mid")) for track in cast("list[Body]", body.get("tracks", []))]:
            track = session.tracks.get(mid)
            if track is None or track.status == "inactive":
                gone = {"errorCode": "close_track_error", "errorDescription": "Track doesn't exist or was already closed"}
                results.append({"mid": mid, **gone})
                continue
            track.status = "inactive"
            results.append({"mid": mid})
        return {"requiresImmediateRenegotiation": False, "tracks": results}


def _body(seen: Seen) -> Body:
    if len(seen.body) > BODY_BYTES_MAX:
        raise _Refusal(413, "payload_too_large", "The body is too large")
    try:
        body = json.loads(seen.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _Refusal(400, "decoding_error", "The request could not be decoded")
    return cast("Body", body)


def _sdp(body: Body, kind: str) -> str:
    description = cast("Body", body.get("sessionDescription") or {})
    if description.get("type") != kind or not isinstance(description.get("sdp"), str):
        raise _Refusal(406, "invalid_session_description", f"Expecting an {kind}")
    return str(description["sdp"])


def _written(sections: list[tuple[str, str]], direction: str) -> str:
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    for kind, mid in sections:
        lines += [f"m={kind} 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", f"a=mid:{mid}", f"a={direction}"]
    return "\r\n".join(lines) + "\r\n"
