"""The application: all routes, every refusal in one form, and an OpenAPI document that tells the truth about both."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from starlette.datastructures import Headers

from signal_gateway.api.access import Guard, Rates
from signal_gateway.api.alarms import alarm_routes
from signal_gateway.api.call import call_routes
from signal_gateway.api.commands import command_routes
from signal_gateway.api.desk import Desk
from signal_gateway.api.devices import device_routes
from signal_gateway.api.door import ApiDoor
from signal_gateway.api.enrolment import enrolment_routes
from signal_gateway.api.problems import PROBLEM_TYPE, WORDS, Problem, handle_problems, problem
from signal_gateway.api.reports import report_routes
from signal_gateway.api.rooms import room_routes
from signal_gateway.api.shapes import told
from signal_gateway.api.system import system_routes

VERSION = "1.0.0"
DESCRIPTION = """\
Devices, their commands and their reports, for operators and their programs.
Times are milliseconds since 1970, UTC. Every refusal is `application/problem+json`; its `code` is a stable word.
"""
OF_EVERY_ROUTE = (
    told(401, "No token or key, or one that is wrong, revoked or over.")
    | told(403, "The role, or the scope, does not go that far.")
    | told(429, "Too many requests, or too many failed attempts of this address: Retry-After says when.")
    | told(503, "The database does not answer, or too much waits for it: nothing was done.")
)
OF_ANY_INPUT = told(422, "A field is missing, unknown or not what it should be; `fields` names which.")
OF_ANY_BODY = (
    told(400, "The body is not JSON, or asks for what cannot be.")
    | told(408, "The body came too slowly.")
    | told(413, "The body is too large.")
)
OF_ALL = told(500, "A fault of ours. The log has its cause.")
EXPOSED = ["Retry-After", "WWW-Authenticate", "Allow"]


class _Cors(CORSMiddleware):
    """What browsers ask before a script of another origin may: refused in the form of all refusals."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return problem(response.status_code, WORDS[response.status_code], bytes(response.body).decode(), kept)


def make_application(desk: Desk) -> ApiDoor:
    """What the server runs."""
    app = FastAPI(title="Signal gateway", version=VERSION, description=DESCRIPTION, docs_url=None, redoc_url=None, redirect_slashes=False)
    parts = (device_routes, command_routes, report_routes, alarm_routes, enrolment_routes, room_routes, system_routes, call_routes)
    routers = [routes(desk) for routes in parts]
    for router in routers:
        app.include_router(router)
    handle_problems(app, routers)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    rates = Rates(desk.settings, desk.metrics)
    app.add_middleware(Guard, operators=desk.operators, proxies=desk.proxies, rates=rates)  # type: ignore[arg-type]
    if desk.settings.allowed_origins:  # around the guard, so that a script can read its refusals, too
        app.add_middleware(
            _Cors,
            allow_origins=list(desk.settings.allowed_origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
            expose_headers=EXPOSED,
        )
    return ApiDoor(app, desk.settings, desk.metrics)  # type: ignore[arg-type]


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once: what every route may answer is added to what each declares itself."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = made["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for operations in made["paths"].values():
            for operation in operations.values():
                _complete(operation)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(operation: dict[str, Any]) -> None:
    may: dict[int | str, Any] = dict(OF_ALL)
    if "security" in operation:
        may |= OF_EVERY_ROUTE
    if "requestBody" in operation:
        may |= OF_ANY_BODY
    responses = operation["responses"]
    validated = responses.pop("422", None)
    if validated is not None:
        may |= OF_ANY_INPUT
    for status, refusal in may.items():
        responses.setdefault(str(status), refusal)
    for status, refusal in responses.items():
        is_problem = PROBLEM_TYPE in refusal.get("content", {})
        if status == "429" or (status == "503" and is_problem):
            refusal.setdefault("headers", {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}})
