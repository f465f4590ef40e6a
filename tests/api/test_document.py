"""The OpenAPI document tells the truth: schemathesis, with data that fits and data that does not, finds no failure and no 500."""

import json
from typing import Any

import trio

from protocol.phone_reports import REPORT_TYPES
from signal_gateway.api.command_shapes import view_told
from signal_gateway.domain.command import CommandState, CommandView, Step, Wait
from signal_gateway.services.command_checks import ALARM_TYPES, MESSAGE_TYPES
from signal_gateway.testing.world import open_world
from tests.api.conftest import Api
from tests.domain.commands_made import command as command_made
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


def test_words_that_are_the_only_ones_stand_in_the_document():
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["AlarmStart"]["properties"]["alarm_type"]["enum"]) == ALARM_TYPES
    assert schemas["AlarmStart"]["required"] == ["alarm_type"]
    assert set(schemas["SendRcs"]["properties"]["message_type"]["anyOf"][0]["enum"]) == MESSAGE_TYPES
    asked = {each["name"]: each["schema"] for each in DOCUMENT["paths"]["/api/reports"]["get"]["parameters"]}
    assert set(asked["type"]["anyOf"][0]["enum"]) == REPORT_TYPES
    batch = DOCUMENT["paths"]["/api/commands"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert batch["items"] == {"$ref": "#/components/schemas/BatchItem"}


def test_all_that_is_told_of_a_command_is_in_the_document():
    everything = {"device_group": "x", "not_before": 1, "final_at": 1, "result": {}, "error": "x", "error_message": "x", "fan_out_id": "x"}
    command = command_made(**everything)
    view = CommandView(command=command, timeline=(Step(at=1, state=CommandState.QUEUED, attempt=1, detail={}),), waits=Wait("busy"))
    told = view_told(view)
    assert set(told) == set(DOCUMENT["components"]["schemas"]["CommandInFull"]["properties"])
    assert set(told["timeline"][0]) == set(DOCUMENT["components"]["schemas"]["TimelineStep"]["properties"])


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
