"""The page of calls (CONTRACT.md §7): two browsers see, hear and write to each other. What it needs beside its files, it asks here.

A link carries its room's token in the fragment. With the demo credentials of the shipped configuration, on this machine alone, the page
makes a room for whoever asks; elsewhere an operator shows their token, or sends a link that the API made.
"""

from importlib.resources import files
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import trio
from fastapi import APIRouter, Request, Response

from signal_gateway.api.desk import Desk, answer
from signal_gateway.api.enrolment import websocket_url
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.errors import BadCredentials, RateLimited
from signal_gateway.domain.rate_limit import Rate, TokenBucket

PAGES = files("signal_gateway.api") / "pages"
FILES = (
    ("/call/call.js", "call.js", "text/javascript; charset=utf-8"),
    ("/call/signal-gateway-client.js", "signal-gateway-client.js", "text/javascript; charset=utf-8"),
    ("/call/call.css", "call.css", "text/css; charset=utf-8"),
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {websocket}; media-src 'self' blob: mediastream:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PERMISSIONS = "camera=(self), microphone=(self), display-capture=(self)"
WHO = Operator("call-page", Role.OPERATOR)


def call_routes(desk: Desk) -> APIRouter:
    """`/call` and what belongs to it."""
    router = APIRouter(include_in_schema=False)
    html = (PAGES / "call.html").read_bytes()
    bucket = TokenBucket(Rate(desk.page_rooms_per_min / 60, desk.page_rooms_per_min), 0.0)

    @router.get("/call")
    async def show(request: Request) -> Response:
        websocket = urlsplit(websocket_url(desk, request.headers.get("host", "")))
        policy = POLICY.format(websocket=f"{websocket.scheme}://{websocket.netloc}")
        headers = {"Content-Security-Policy": policy, "Permissions-Policy": PERMISSIONS}
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)

    @router.get("/call/settings")
    async def settings(request: Request) -> Response:
        host = request.headers.get("host", "")
        return answer({"websocket_url": websocket_url(desk, host), "makes_rooms": _makes_rooms(desk, request)})

    @router.post("/call/room")
    async def make(request: Request) -> Response:
        if not _makes_rooms(desk, request):
            raise BadCredentials("Only an operator makes rooms here: ask for a link, or show a token")
        wait_s = bucket.take(trio.current_time())
        if wait_s > 0:
            desk.metrics.limits.add("rooms.page_rooms_per_min")
            raise RateLimited("room", wait_s)
        made = desk.rooms.make(WHO, None)
        return answer({"room_id": made.room.room_id, "token": made.token, "expires_at": made.expires_at}, 201)

    for path, name, media_type in FILES:
        router.add_api_route(path, _file(name, media_type), methods=["GET"])
    return router


def _makes_rooms(desk: Desk, request: Request) -> bool:
    """Whether the page makes a room without an operator: with demo credentials, asked from this machine, by a name of this machine.

    The last two because a page of the web may be made to look as if it came from here (DNS rebinding).
    """
    peer = request.client.host if request.client else ""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return desk.is_demo and _is_here(peer) and (host == "localhost" or _is_here(host)) and _is_own(request)


def _is_own(request: Request) -> bool:
    """Whether a browser that asks does so for our own page."""
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _is_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _file(name: str, media_type: str) -> Any:
    content = (PAGES / name).read_bytes()

    async def show() -> Response:
        return Response(content, media_type=media_type)

    return show
