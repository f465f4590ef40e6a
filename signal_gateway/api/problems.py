"""Every refusal in one form: `application/problem+json` (RFC 9457), with the stable word `code` and, as the source prints, `error`."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException as StarletteHTTPException

from signal_gateway.api.bodies import DUPLICATE_KEY
from signal_gateway.domain.errors import BadCredentials, DatabaseDown, GatewayError

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
FIELDS_TOLD_MAX = 10
WORDS: Mapping[int, str] = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 408: "body_too_slow"}
"""The stable word of a refusal that has no class of its own."""


class Problem(BaseModel):
    """Why a request was refused. `detail` is for people, `code` for programs."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str


class BodyRefused(StarletteHTTPException):
    """A body is larger or slower than may be. Of this class, because the framework makes 400 of whatever else reading a body raises."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail, {"Connection": "close"})


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """One refusal. `more` is added as it is."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, "error": detail, **more}
    return Response(msgspec.json.encode(body), status, headers, PROBLEM_TYPE)


def refusal(error: GatewayError) -> Response:
    """What a service refused, as its asker is told."""
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after_s)))
    elif isinstance(error, DatabaseDown) or error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    elif isinstance(error, BadCredentials):
        headers["WWW-Authenticate"] = "Bearer" if error.reason != "expired" else 'Bearer error="invalid_token"'
    return problem(error.status, error.reason, error.message, headers)


def handle_problems(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Let `app`, which serves these routers, answer in this form whatever goes wrong in it, the framework's own refusals included."""

    async def gateway_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)  # noqa: S101 - as it was registered
        return refusal(error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return _invalid(error.errors())

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)  # noqa: S101
        status = error.status_code
        headers = {"Allow": ", ".join(_methods_at(request.url.path, routers))} if status == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
        detail = error.detail if isinstance(error, BodyRefused) else _SENTENCES.get(status, HTTPStatus(status).phrase)
        return problem(status, WORDS.get(status, "refused"), detail, headers)

    async def fault(_: Request, error: Exception) -> Response:
        del error  # the door counts and logs it: see door.py
        return problem(500, "internal", "Internal server error")

    app.add_exception_handler(GatewayError, gateway_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(StarletteHTTPException, http_error)
    app.add_exception_handler(Exception, fault)


_SENTENCES: Mapping[int, str] = {
    400: "The body could not be read",
    404: "There is no such thing here",
    405: "This cannot be done here; Allow names what can",
}


def _invalid(errors: Iterable[Mapping[str, Any]]) -> Response:
    """Names the fields that are wrong and how, never what was in them: that may be a secret."""
    told = list(errors)[:FIELDS_TOLD_MAX]
    for error in told:
        if error["type"] == "json_invalid":
            is_twice = error["ctx"]["error"] == DUPLICATE_KEY
            return problem(400, "duplicate_key", DUPLICATE_KEY) if is_twice else problem(400, "invalid_json", "The body is not JSON")
    fields = [{"field": _field(error["loc"]), "message": str(error["msg"])} for error in told]
    detail = "; ".join(f"{each['field']}: {each['message']}" if each["field"] else each["message"] for each in fields)
    return problem(422, "invalid_field", detail, fields=fields)


def _field(place: Iterable[Any]) -> str:
    """`body.0.to` as its sender knows it. Where it stands in the request is told by its name."""
    parts = [str(part) for part in place]
    return ".".join(parts[1:] if parts[:1] == ["body"] else parts)


def _methods_at(path: str, routers: Sequence[APIRouter]) -> list[str]:
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    found = {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))
