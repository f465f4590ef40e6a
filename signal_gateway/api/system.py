"""Routes of the API itself: who I am, tokens, health, and the pages that describe all of it without asking anybody else's server."""

from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response

from signal_gateway.api.access import Admin, Holder, Viewer, whole_fleet_only
from signal_gateway.api.desk import Desk, answer
from signal_gateway.api.shapes import STORES, Answer, told
from signal_gateway.domain.access import Operator, scope_values

PAGES = files("signal_gateway.api") / "pages"
TokenPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{8,64}$", description="The id of a token: its claim jti.")]


class Me(Answer):
    """Whose token it is."""

    subject: str
    role: Literal["viewer", "operator", "admin"]
    scope: dict[str, list[str]] | None
    """`devices` and `groups`; null is the whole fleet."""
    credential_id: str
    expires_at: int | None


class NewToken(Answer):
    """A newer token for the same operator, or client."""

    token: str
    expires_in: int
    """Seconds."""


class TokenRevoked(Answer):
    """A token that is worth nothing any more."""

    id: str
    status: Literal["revoked"]


class HealthAnswer(Answer):
    """Whether the gateway should get traffic."""

    status: Literal["ready", "not_ready", "draining"]
    checks: dict[str, str]


def system_routes(desk: Desk) -> APIRouter:
    """`/api/me`, tokens, `/health` and the pages."""
    router = APIRouter(tags=["system"])
    operators = desk.operators

    @router.get("/api/me", summary="Who I am", response_model=Me)
    async def me(operator: Viewer) -> Response:
        return answer(me_told(operator))

    @router.post(
        "/api/token/refresh",
        summary="A newer token",
        response_model=NewToken,
        responses=STORES | told(409, "It was a key that asked: it is good as it is."),
    )
    async def refresh(operator: Holder) -> Response:
        token = await operators.refresh(operator, desk.token_expiry_s)
        return answer({"token": token, "expires_in": desk.token_expiry_s})

    @router.delete("/api/tokens/{token_id}", summary="Revoke a token", response_model=TokenRevoked, responses=STORES)
    async def revoke(operator: Admin, token_id: TokenPath) -> Response:
        whole_fleet_only(operator, "To revoke tokens")
        await operators.revoke(token_id, operator.subject)
        return answer({"id": token_id, "status": "revoked"})

    @router.get(
        "/health",
        summary="Whether it is ready",
        response_model=HealthAnswer,
        responses={503: {"model": HealthAnswer, "description": "It is not."}},
    )
    async def health() -> Response:
        is_ready, report = desk.health.report()
        return answer(report, 200 if is_ready else 503)

    for path, name, media_type in (
        ("/docs", "docs.html", "text/html; charset=utf-8"),
        ("/docs/docs.js", "docs.js", "text/javascript; charset=utf-8"),
        ("/docs/docs.css", "docs.css", "text/css; charset=utf-8"),
    ):
        router.add_api_route(path, _page(name, media_type), methods=["GET"], include_in_schema=False)
    return router


def me_told(operator: Operator) -> dict[str, Any]:
    """An operator as a client is told."""
    return {
        "subject": operator.subject,
        "role": operator.role.value,
        "scope": scope_values(operator.scope),
        "credential_id": operator.credential_id,
        "expires_at": operator.expires_at,
    }


def _page(name: str, media_type: str) -> Any:
    content = (PAGES / name).read_bytes()

    async def show() -> Response:
        return Response(content, media_type=media_type)

    return show
