"""Cloudflare in a test: a stand-in over nothing, on virtual time, or over a socket; and SDP as browsers write it."""

import os
from collections.abc import AsyncIterator
from random import Random

import httpx2
import trio

from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.testing.fake_cloudflare import FakeCloudflare
from signal_gateway.testing.fake_http import Seen, faulty

APP_ID, APP_SECRET = "app-1", "canary-app-secret"
SETTINGS = CloudflareSettings(app_id=APP_ID, app_secret=APP_SECRET, base_url="https://rtc.example/v1")
FINGERPRINT = ":".join(f"{number:02X}" for number in Random(7).randbytes(32))


def offer_of(*kinds: str) -> str:
    """An offer with a sending section for each of `kinds`, "audio" or "video", and candidates left to trickle."""
    lines = ["v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines += [f"a=group:BUNDLE {' '.join(str(mid) for mid in range(len(kinds)))}", "a=msid-semantic: WMS stream"]
    for mid, kind in enumerate(kinds):
        payload, codec = ("111", "opus/48000/2") if kind == "audio" else ("96", "VP8/90000")
        lines += [f"m={kind} 9 UDP/TLS/RTP/SAVPF {payload}", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0"]
        lines += ["a=ice-ufrag:EsAw", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", f"a=fingerprint:sha-256 {FINGERPRINT}", "a=setup:actpass"]
        lines += [f"a=mid:{mid}", "a=sendonly", f"a=msid:stream {kind}{mid}", "a=rtcp-mux", f"a=rtpmap:{payload} {codec}"]
        lines += [f"a=ssrc:{1000 + mid} cname:{kind}"]
    return "\r\n".join(lines) + "\r\n"


OFFER = offer_of("audio", "video")
ANSWER = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


class OverNothing(httpx2.AsyncBaseTransport):
    """Gives each request to the stand-in and takes no time, but for faults: those that tests of virtual time need. Records when."""

    def __init__(self, fake: FakeCloudflare) -> None:
        self.fake = fake
        self.asked_at: list[float] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        self.asked_at.append(trio.current_time())
        fault = self.fake.faults.popleft() if self.fake.faults else None
        match None if fault is None else fault.kind:
            case "status" | "garbage" if fault is not None:
                status, more, body = faulty(fault)
                return httpx2.Response(status, headers=dict(more), content=Pieces(body), request=request)
            case "cut_unseen":
                raise httpx2.ConnectError("all connection attempts failed", request=request)
            case "slow" if fault is not None:
                await trio.sleep(fault.seconds)
            case _:
                pass
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, more, body = self.fake.answer(Seen(request.method, request.url.path, headers, await request.aread()))
        if fault is not None and fault.kind == "cut":
            raise httpx2.ReadError("connection reset", request=request)
        return httpx2.Response(status, headers=dict(more), content=Pieces(body), request=request)


class Pieces(httpx2.AsyncByteStream):
    """A body as it comes from a network."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def real_settings() -> CloudflareSettings | None:
    """Of the application whose id and secret stand in the environment, under any of the names that a gateway may have them by."""
    for prefix in ("SIGNAL_GATEWAY_CLOUDFLARE__", "SIGNAL_GATEWAY_CLOUDFLARE_", "SIGNAL_MANAGER_CLOUDFLARE_"):
        app_id, app_secret = os.environ.get(f"{prefix}APP_ID"), os.environ.get(f"{prefix}APP_SECRET")
        if app_id and app_secret:
            return CloudflareSettings(app_id=app_id, app_secret=app_secret)
    return None
