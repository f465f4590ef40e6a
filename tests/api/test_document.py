"""The OpenAPI document tells the truth: schemathesis, with data that fits and data that does not, finds no failure and no 500."""

import json
from typing import Any

import trio

from signal_gateway.testing.world import open_world
from tests.api.conftest import Api
from tests.websocket.test_commands import patient


def document() -> dict[str, Any]:
    async def read() -> Any:
        async with open_world(patient()) as world:
            return (await Api(world).call("GET", "/openapi.json", who=None)).json

    return trio.run(read)


DOCUMENT = document()


def test_every_route_has_its_refusals_and_its_security():
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            assert "500" in operation["responses"], (method, path)
            if path.startswith("/api/"):
                assert {"401", "403", "429", "503"} <= operation["responses"].keys(), (method, path)
                assert operation["security"]


def test_the_document_is_the_same_each_time():
    assert json.dumps(document(), sort_keys=True) == json.dumps(DOCUMENT, sort_keys=True)


def test_the_paths_of_the_contract_are_there():
    ours = {f"{method.upper()} {path}" for path, operations in DOCUMENT["paths"].items() for method in operations}
    of_contract = {
        "GET /api/devices/{device_id}/status",
        "POST /api/devices/{device_id}/send-sms",
        "POST /api/devices/{device_id}/send-ussd",
        "POST /api/devices/{device_id}/ussd-reply",
        "POST /api/devices/{device_id}/send-rcs",
        "POST /api/devices/{device_id}/find",
        "POST /api/devices/{device_id}/alarm-start",
        "POST /api/devices/{device_id}/alarm-stop",
        "GET /api/devices",
        "DELETE /api/devices/{device_id}",
        "GET /api/devices/{device_id}/settings",
        "PATCH /api/devices/{device_id}/settings",
        "POST /api/commands",
        "GET /api/commands/{message_id}",
        "DELETE /api/commands/{message_id}",
        "POST /api/commands/{message_id}/requeue",
        "GET /api/dead-letters",
        "GET /api/reports",
        "GET /api/alarms",
        "POST /api/alarms/{alarm_id}/acknowledge",
        "POST /api/enrolment-keys",
        "GET /api/enrolment-keys/{key_id}/qr.png",
        "GET /api/enrolment-keys/{key_id}/qr.svg",
    }
    assert of_contract <= ours
