"""Routes of enrolment keys: made, listed, revoked, and shown as a QR code while they are fresh (T-36, CONTRACT.md §6)."""

import io
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

import segno
import trio
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from signal_gateway.api.access import Admin
from signal_gateway.api.bodies import StrictRoute
from signal_gateway.api.desk import Desk, answer
from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.api.shapes import NOT_FOUND, STORES, Answer, Asked, Body, Millis, Page, Word, instant, page, told
from signal_gateway.domain.access import Operator
from signal_gateway.domain.credential import Credential, CredentialKind
from signal_gateway.domain.errors import BadRequest, Forbidden, KeyNotFound, KeyNotShown
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.provisioning import provisioning_data, provisioning_text

MS_PER_DAY = 86_400_000
PIXELS = 6
QUIET_MODULES = 4
KeyPath = Annotated[str, Path(max_length=64, description="The id of a key: the part between sgk_ and the next _.")]


class NewEnrolmentKey(Body):
    """Whom a key brings in, and for how long."""

    label: Annotated[str, Field(max_length=128)] = ""
    group: Word | None = None
    sitename: Annotated[str, Field(max_length=128)] = ""
    queue_name: Annotated[str, Field(max_length=128)] = ""
    max_devices: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    expires_days: Annotated[float | None, Field(gt=0, le=3650, allow_inf_nan=False)] = None
    expires_at: Annotated[Millis | str | None, Field(description="Instead: milliseconds since 1970, or RFC 3339 with a zone.")] = None


class NewKeyAnswer(Answer):
    """A fresh enrolment key, shown this once, and what a phone reads out of its QR code."""

    id: str
    key: str
    provisioning: dict[str, Any]


class KeyRevoked(Answer):
    """A key that is worth nothing any more."""

    id: str
    status: str


class FreshKeys:
    """What new keys provision, for a few minutes and in memory alone, so that it can be shown as a QR code."""

    def __init__(self, settings: HttpSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._limits = metrics.limits
        self._kept: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def keep(self, key_id: str, text: str) -> None:
        """Remember it until it is old, or others need its place."""
        self._kept[key_id] = (trio.current_time() + self._settings.qr_kept_s, text)
        if len(self._kept) > self._settings.qr_keys_max:
            self._limits.add("http.qr_keys_max")
            self._kept.popitem(last=False)

    def forget(self, key_id: str) -> None:
        """It was revoked."""
        self._kept.pop(key_id, None)

    def text_of(self, key_id: str) -> str:
        """What the code says. Raises KeyNotShown when the key is not fresh any more."""
        for old in [each for each, (until_s, _) in self._kept.items() if until_s <= trio.current_time()]:
            del self._kept[old]
        if key_id not in self._kept:
            raise KeyNotShown
        return self._kept[key_id][1]


def enrolment_routes(desk: Desk) -> APIRouter:
    """Routes under `/api/enrolment-keys`: for administrators."""
    router = APIRouter(prefix="/api/enrolment-keys", tags=["enrolment"], route_class=StrictRoute)
    credentials, fresh = desk.credentials, FreshKeys(desk.settings, desk.metrics)

    async def find(operator: Operator, key_id: str) -> Credential:
        found = await credentials.find(key_id)
        if found is None or found.kind is not CredentialKind.ENROLMENT or not _may_see(operator, found):
            raise KeyNotFound
        return found

    @router.post(
        "",
        summary="Make a key",
        status_code=201,
        response_model=NewKeyAnswer,
        responses=STORES | told(400, "Its end is over, or given twice; or the body is not JSON."),
    )
    async def create(operator: Admin, body: NewEnrolmentKey, request: Request) -> Response:
        if not operator.scope.is_whole_fleet and (body.group is None or not operator.scope.allows_group(body.group)):
            raise Forbidden("A key brings devices into a group of your scope: name one", "out_of_scope")
        now = desk.wall_ms()
        key_id, key = await credentials.create(
            CredentialKind.ENROLMENT, body.label, None, body.group, body.max_devices, _end_of(body, now), operator.subject
        )
        url = websocket_url(desk, request.headers.get("host", ""))
        data = provisioning_data(key, url, desk.phone_settings, now, body.group or "", body.sitename, body.queue_name)
        fresh.keep(key_id, provisioning_text(data))
        return answer({"id": key_id, "key": key, "provisioning": data}, 201)

    @router.get("", summary="List keys, never their secrets", response_model=Page)
    async def list_keys(operator: Admin, asked: Annotated[Asked, Query()]) -> Response:
        seen = [each for each in await credentials.list() if each.kind is CredentialKind.ENROLMENT and _may_see(operator, each)]
        begin = asked.position or 0
        shown = seen[begin : begin + asked.limit]
        end = begin + len(shown)
        return answer(page([key_told(each, desk.wall_ms()) for each in shown], end if end < len(seen) else None))

    @router.delete("/{key_id}", summary="Revoke it: its links end", response_model=KeyRevoked, responses=NOT_FOUND | STORES)
    async def revoke(operator: Admin, key_id: KeyPath) -> Response:
        await find(operator, key_id)
        fresh.forget(key_id)
        if not await credentials.revoke(key_id, operator.subject):
            raise KeyNotFound
        return answer({"id": key_id, "status": "revoked"})

    _add_codes(router, fresh, find)
    return router


def _add_codes(router: APIRouter, fresh: FreshKeys, find: Callable[[Operator, str], Awaitable[Credential]]) -> None:
    def shows(media_type: str) -> dict[str, Any]:
        gone = told(410, "The key is not fresh any more: only its digest is kept.")
        schema = {"schema": {"type": "string", "format": "binary"}}
        return {
            "response_class": Response,
            "responses": NOT_FOUND | gone | {200: {"content": {media_type: schema}, "description": "The code."}},
        }

    @router.get("/{key_id}/qr.png", summary="Its QR code, as PNG", **shows("image/png"))
    async def png(operator: Admin, key_id: KeyPath) -> Response:
        await find(operator, key_id)
        return Response(_drawn(fresh.text_of(key_id), "png"), media_type="image/png")

    @router.get("/{key_id}/qr.svg", summary="Its QR code, as SVG", **shows("image/svg+xml"))
    async def svg(operator: Admin, key_id: KeyPath) -> Response:
        await find(operator, key_id)
        return Response(_drawn(fresh.text_of(key_id), "svg"), media_type="image/svg+xml")


def websocket_url(desk: Desk, host_header: str) -> str:
    """Where phones connect: `server.public_url`, or `/ws` of the host that the operator reached us by."""
    if desk.public_url:
        return desk.public_url
    try:
        host = urlsplit(f"//{host_header}").hostname or "127.0.0.1"
    except ValueError:
        host = "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    return f"{'wss' if desk.speaks_tls else 'ws'}://{shown}:{desk.websocket_port()}/ws"


def key_told(credential: Credential, now_ms: int) -> dict[str, Any]:
    """A key in a list."""
    state = "revoked" if credential.revoked_at is not None else "expired" if credential.is_expired(now_ms) else "live"
    return {
        "id": credential.id,
        "label": credential.label,
        "group": credential.device_group,
        "max_devices": credential.max_devices,
        "state": state,
        "created_at": credential.created_at,
        "expires_at": credential.expires_at,
    }


def _may_see(operator: Operator, credential: Credential) -> bool:
    if operator.scope.is_whole_fleet:
        return True
    return credential.device_group is not None and operator.scope.allows_group(credential.device_group)


def _end_of(body: NewEnrolmentKey, now_ms: int) -> int | None:
    if body.expires_days is not None and body.expires_at is not None:
        raise BadRequest("Give expires_days or expires_at, not both", "invalid_field")
    end = instant(body.expires_at, "expires_at") if body.expires_days is None else now_ms + round(body.expires_days * MS_PER_DAY)
    if end is not None and end <= now_ms:
        raise BadRequest("expires_at is over already", "invalid_field")
    return end


def _drawn(text: str, kind: str) -> bytes:
    drawing = io.BytesIO()
    segno.make_qr(text, error="l").save(drawing, kind=kind, scale=PIXELS, border=QUIET_MODULES)
    return drawing.getvalue()
