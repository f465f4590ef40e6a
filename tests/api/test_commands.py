"""Commands over HTTP: the seed's calls, ids and keys, many at once, their life, and what is refused."""

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from signal_gateway.storage.tables import device_status, sims
from tests.api.conftest import Api
from tests.api.test_access import SMS, enrol
from tests.websocket.talk import closing, hear, phone_headers
from tests.websocket.test_commands import log_of, report, told


async def test_the_seeds_call_sends_and_the_timeline_tells_it(autojump_clock: MockClock, api: Api):
    async with api.world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        answered = await api.call("POST", "/api/devices/phone-1/send-sms", {**SMS, "priority": "high"}, "operator")
        assert (answered.status, answered.json["status"]) == (202, "queued")
        message_id = answered.json["message_id"]
        command = await told(phone)
        assert command is not None
        assert command["message_id"] == message_id
        assert command["data"] == {**SMS, "priority": "high"}
        await log_of(phone, command)
        await trio.sleep(1)
        found = (await api.call("GET", f"/api/commands/{message_id}", who="viewer")).json
        assert (found["state"], found["kind"], found["attempts"], found["segments"]) == ("sent", "send_sms", 1, 1)
        assert [step["state"] for step in found["timeline"]] == ["queued", "dispatched", "sent"]
        status = (await api.call("GET", "/api/devices/phone-1/status", who="viewer")).json
        assert (status["device_id"], status["status"], status["link"]) == ("phone-1", "online", "up")


@pytest.mark.parametrize(
    ("path", "body", "kind", "said"),
    [
        ("send-ussd", {"sim_slot": 0, "ussd_code": "*123#"}, "send_ussd", ("ussd_response", {"response": "Bakiyeniz 12,50 TL"})),
        (
            "send-rcs",
            {**SMS, "message_type": "text"},
            "send_rcs",
            ("rcs_log", {"phone_number": SMS["phone_number"], "status": "delivered"}),
        ),
        ("find", {"message": "where"}, "find_device", ("find_device_success", {})),
        ("find", None, "find_device", ("find_device_success", {})),
        ("alarm-start", {"alarm_type": "offline", "message": "x"}, "alarm_start", ("alarm_started", {})),
        ("alarm-stop", None, "alarm_stop", ("alarm_stopped", {})),
    ],
)
async def test_each_kind_goes_its_way(
    autojump_clock: MockClock, api: Api, path: str, body: object, kind: str, said: tuple[str, dict[str, object]]
):
    async with api.world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        answered = await api.call("POST", f"/api/devices/phone-1/{path}", body)
        assert answered.status == 202, answered.body
        command = await told(phone)
        assert command is not None
        assert command["type"] == kind
        await report(phone, said[0], **said[1])
        await trio.sleep(1)
        assert (await api.call("GET", f"/api/commands/{answered.json['message_id']}")).json["state"] == "delivered"


async def test_a_key_makes_one_command_and_another_body_under_it_is_refused(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1")
    key = {"Idempotency-Key".lower(): "k1"}
    first = await api.call("POST", "/api/devices/phone-1/send-sms", SMS, headers=key)
    again = await api.call("POST", "/api/devices/phone-1/send-sms", SMS, headers=key)
    assert (first.status, first.json) == (again.status, again.json)
    other = await api.call("POST", "/api/devices/phone-1/send-sms", {**SMS, "message": "other"}, headers=key)
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")
    named = {**SMS, "message_id": "mine"}
    assert (await api.call("POST", "/api/devices/phone-1/send-sms", named)).json["message_id"] == "mine"
    assert (await api.call("POST", "/api/devices/phone-1/send-sms", {**named, "message": "x"})).status == 409
    assert len((await api.call("GET", "/api/commands")).json["items"]) == 2


async def test_a_key_is_looked_up_whatever_else_names_the_command_and_on_whichever_route(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1")

    async def send(body: Mapping[str, object], key: str) -> tuple[int, str]:
        answered = await api.call("POST", "/api/devices/phone-1/send-sms", body, headers={"idempotency-key": key})
        return answered.status, answered.json.get("message_id") or answered.json["code"]

    async def send_many(key: str, *bodies: Mapping[str, object]) -> int:
        items = [
            {"to": {"device": "phone-1"}, "kind": "send_sms", "data": {"phone_number": "+905551234567", "message": "hello"}, **body}
            for body in bodies
        ]
        return (await api.call("POST", "/api/commands", items, headers={"idempotency-key": key})).status

    first, reused = {**SMS, "message_id": "r6-1"}, (422, "idempotency_key_reused")
    assert await send(first, "k") == await send(first, "k") == (202, "r6-1")
    for other in ({**SMS, "message_id": "r6-2"}, {**first, "message": "other"}, SMS, {**SMS, "message": "other"}):
        assert await send(other, "k") == reused
    assert await send(first, "another") == (202, "r6-1")
    assert await send({**first, "message": "other"}, "another") == (409, "message_id_taken")
    assert await send_many("k", {}) == 422
    assert await send_many("many", {"message_id": "m-1"}, {}) == await send_many("many", {"message_id": "m-1"}, {}) == 200
    assert await send_many("many", {"message_id": "m-2"}, {}) == 422
    assert await send(SMS, "many") == reused
    assert (await send(SMS, "many/0"))[0] == 202
    assert len((await api.call("GET", "/api/commands")).json["items"]) == 4
    assert (await api.call("DELETE", "/api/devices/phone-1")).status == 200
    assert await send(first, "k") == (202, "r6-1")
    assert await send({**SMS, "message_id": "r6-2"}, "k") == reused


async def test_of_two_that_come_at_once_under_one_key_one_is_kept(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1")
    statuses: list[int] = []

    async def send(message_id: str) -> None:
        body = {**SMS, "message_id": message_id}
        statuses.append((await api.call("POST", "/api/devices/phone-1/send-sms", body, headers={"idempotency-key": "k"})).status)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(send, f"m-{number}")
    assert sorted(statuses) == [202, 422, 422, 422, 422]


async def test_many_at_once_each_with_its_own_result(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1")
    data = {"phone_number": "+905551234567", "message": "x"}
    items: list[object] = [{"to": {"device": "phone-1"}, "kind": "send_sms", "data": data} for _ in range(998)]
    items += [{"to": {"device": "nobody"}, "kind": "send_sms", "data": data}, {"to": {"any": True}, "kind": "find_device", "data": {}}]
    answered = await api.call("POST", "/api/commands", items, headers={"idempotency-key": "batch"})
    assert answered.status == 207
    results = answered.json
    assert [each.get("code") for each in results[-2:]] == ["device_not_found", "device_needed"]
    assert len({each["message_id"] for each in results[:998]}) == 998
    again = await api.call("POST", "/api/commands", items, headers={"idempotency-key": "batch"})
    assert again.json == results
    assert (await api.call("POST", "/api/commands", [items[0]] * 1001)).status == 422


async def test_an_item_that_is_none_hinders_no_other(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1")
    good = {"to": {"device": "phone-1"}, "kind": "send_sms", "data": {"phone_number": "+905551234567", "message": "x"}}
    items = [good, {**good, "kind": "send_fax"}, {**good, "priority": "loud"}, "none", {**good, "surprise": 1}, good]
    answered = await api.call("POST", "/api/commands", items, headers={"idempotency-key": "k"})
    assert (answered.status, [each.get("code", "queued") for each in answered.json]) == (207, ["queued", *["invalid_field"] * 4, "queued"])
    assert [each["error"].partition(":")[0] for each in answered.json[1:5]] == [
        "kind",
        "priority.literal['low','normal','high','urgent','critical']",
        "item",
        "surprise",
    ]
    again = await api.call("POST", "/api/commands", items, headers={"idempotency-key": "k"})
    assert again.json == answered.json
    assert (await api.call("POST", "/api/commands", {"items": items})).status == 422


async def test_a_key_of_many_stands_for_all_of_them(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1")

    def item(message: str, **terms: object) -> dict[str, object]:
        return {"to": {"device": "phone-1"}, "kind": "send_sms", "data": {"phone_number": "+905551234567", "message": message}, **terms}

    async def post(*items: dict[str, object], key: str = "k") -> tuple[int, Any]:
        answered = await api.call("POST", "/api/commands", list(items), headers={"idempotency-key": key})
        return answered.status, answered.json

    first = await post(item("a"), item("b"))
    assert first[0] == 200
    assert await post(item("a"), item("b")) == first
    a, b, c = item("a"), item("b"), item("c")
    for other in ([a], [b, a], [a, b, c], [c] * 1000, [a, item("b", priority=1)]):
        status, problem = await post(*other)
        assert (status, problem["code"]) == (422, "idempotency_key_reused")
    assert len((await api.call("GET", "/api/commands")).json["items"]) == 2
    named = item("a", message_id="mine")
    assert (await post(named, key="x"))[1] == (await post(named, item("c"), key="y"))[1][:1]


async def test_what_was_accepted_is_answered_the_same_when_its_device_is_gone(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1")
    key = {"idempotency-key": "k"}
    first = await api.call("POST", "/api/devices/phone-1/send-sms", SMS, headers=key)
    assert (await api.call("DELETE", "/api/devices/phone-1")).status < 300
    again = await api.call("POST", "/api/devices/phone-1/send-sms", SMS, headers=key)
    assert (again.status, again.json) == (202, first.json)
    other = await api.call("POST", "/api/devices/phone-1/send-sms", {**SMS, "message": "other"}, headers=key)
    assert other.status == 422
    assert (await api.call("POST", "/api/devices/phone-1/send-sms", SMS)).status == 404


async def test_a_group_is_found_phone_by_phone(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1", "phone-2", device_group="shop")
    await enrol(api, "phone-3")
    items = [{"to": {"group": "shop"}, "kind": "find_device", "data": {"message": "drill"}, "ttl_s": 60}]
    answered = await api.call("POST", "/api/commands", items, "shopkeeper", headers={"idempotency-key": "drill"})
    assert answered.status == 200
    (result,) = answered.json
    assert (result.keys(), result["status"]) == ({"status", "commands"}, "queued")
    assert [each["device_id"] for each in result["commands"]] == ["phone-1", "phone-2"]
    for each in result["commands"]:
        found = (await api.call("GET", f"/api/commands/{each['message_id']}", who="shopkeeper")).json
        assert (found["device_id"], found["fan_out_id"]) == (each["device_id"], result["commands"][0]["message_id"])
    await enrol(api, "phone-4", device_group="shop")
    again = await api.call("POST", "/api/commands", items, "shopkeeper", headers={"idempotency-key": "drill"})
    assert again.json == answered.json
    refused = [*items, {"to": {"group": "nowhere"}, "kind": "alarm_stop"}, {"to": {"any": True}, "kind": "alarm_stop"}]
    mixed = await api.call("POST", "/api/commands", refused, "shopkeeper", headers={"idempotency-key": "another"})
    assert mixed.status == 207
    assert [each["code"] for each in mixed.json[1:]] == ["group_empty", "device_needed"]


async def test_lists_go_on_behind_their_cursor(autojump_clock: MockClock, api: Api):
    await enrol(api, *(f"phone-{number}" for number in range(5)))
    sent = [(await api.call("POST", f"/api/devices/phone-{number}/send-sms", SMS)).json["message_id"] for number in range(5)]
    for path, name, expected in (
        ("/api/commands", "message_id", sent[::-1]),
        ("/api/devices", "device_id", [f"phone-{number}" for number in range(5)]),
    ):
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await api.call("GET", f"{path}?limit=2{cursor}")).json
            seen += [item[name] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == expected
    assert (await api.call("GET", "/api/commands?limit=501")).status == 422
    assert (await api.call("GET", "/api/commands?cursor=zzz")).status == 422
    assert (await api.call("GET", "/api/reports?type=nope")).status == 422
    assert (await api.call("GET", "/api/commands?stat=sent")).status == 422  # a filter that is mistyped would show everything


async def test_cancel_dead_letters_and_requeue(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1")
    waiting = (await api.call("POST", "/api/devices/phone-1/send-sms", SMS)).json["message_id"]
    found = (await api.call("GET", f"/api/commands/{waiting}")).json
    assert found["waits"] == {"reason": "offline", "until": None}
    assert (await api.call("DELETE", f"/api/commands/{waiting}")).json["state"] == "cancelled"
    late = await api.call("DELETE", f"/api/commands/{waiting}")
    assert (late.status, late.json["code"]) == (409, "too_late")
    async with api.world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        dead = (await api.call("POST", "/api/devices/phone-1/send-sms", SMS)).json["message_id"]
        for _ in range(6):
            await log_of(phone, await told(phone, 4000), "failed")
        await trio.sleep(1)
        (letter,) = (await api.call("GET", "/api/dead-letters")).json["items"]
        assert (letter["message_id"], letter["error"]) == (dead, "send_failed")
        assert (await api.call("POST", f"/api/commands/{dead}/requeue")).json["state"] == "queued"
        assert (await api.call("POST", f"/api/commands/{dead}/requeue")).status == 409


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({**SMS, "phone_number": "12"}, 400, "invalid_number"),
        ({**SMS, "message": ""}, 422, "invalid_field"),
        ({**SMS, "sim_slot": "0"}, 422, "invalid_field"),
        ({**SMS, "surprise": 1}, 422, "invalid_field"),
        ({**SMS, "priority": "loud"}, 422, "invalid_field"),
        ({**SMS, "ttl_s": 0}, 422, "invalid_field"),
        ({**SMS, "not_before": "yesterday"}, 400, "invalid_field"),
        ({"message": "x"}, 422, "invalid_field"),
        (b"{", 400, "invalid_json"),
        (b'{"phone_number": "+905551234567", "message": "a", "message": "b"}', 400, "duplicate_key"),
        (b'{"phone_number": "+905551234567", "message": "a", "ttl_s": NaN}', 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        ([], 422, "invalid_field"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_word_and_nothing_is_kept(
    autojump_clock: MockClock, api: Api, body: object, status: int, code: str
):
    await enrol(api, "phone-1")
    answered = await api.call("POST", "/api/devices/phone-1/send-sms", body)
    assert (answered.status, answered.json["code"]) == (status, code), answered.body
    assert answered.headers["content-type"] == "application/problem+json"
    assert set(answered.json) >= {"type", "title", "status", "detail", "code", "error"}
    assert (await api.call("GET", "/api/commands")).json["items"] == []


async def test_settings_are_changed_versioned_and_told_to_the_phone(autojump_clock: MockClock, api: Api):
    async with api.world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        before = (await api.call("GET", "/api/devices/phone-1/settings")).json
        changed = await api.call("PATCH", "/api/devices/phone-1/settings", {"battery_low_threshold": 33}, "operator")
        assert (changed.status, changed.json["settings"]["battery_low_threshold"]) == (200, 33)
        assert changed.json["version"] == before["version"] + 1
        same = {"battery_low_threshold": 33, "signal_low_threshold": before["settings"]["signal_low_threshold"]}
        assert (await api.call("PATCH", "/api/devices/phone-1/settings", same)).json == changed.json
        said = await told(phone)
        assert said is not None
        assert (said["type"], said["settings"]["battery_low_threshold"], len(said["settings"])) == ("connection_established", 33, 19)
        assert await told(phone, 5) is None
        assert (await api.call("PATCH", "/api/devices/phone-1/settings", {"battery_low_threshold": 101})).status == 422
        await report(phone, "heartbeat", battery_level=32)
        await trio.sleep(1)
        (alarm,) = (await api.call("GET", "/api/alarms?active=true&device=phone-1&type=battery_low")).json["items"]
        seen = await api.call("POST", f"/api/alarms/{alarm['id']}/acknowledge")
        assert (seen.status, seen.json["acknowledged_by"]) == (200, "admin")
        assert (await api.call("POST", "/api/alarms/99999/acknowledge")).status == 404


async def test_a_device_that_is_deleted_is_gone_and_its_link_ends(autojump_clock: MockClock, api: Api):
    await api.call("PATCH", "/api/devices/phone-1/settings", {"auto_disable_sim_on_alarm": True})
    async with api.world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await report(phone, "alarm", alarm_type="sms_blocked", sim_slot=0)
        await trio.sleep(1.5)
        assert (await api.call("DELETE", "/api/devices/phone-1", who="operator")).status == 403
        later = {**SMS, "not_before": api.world.wall_ms() + 1_000_000}
        waiting = (await api.call("POST", "/api/devices/phone-1/send-sms", later)).json["message_id"]
        assert (await api.call("DELETE", "/api/devices/phone-1")).json["status"] == "deleted"
        assert await closing(phone) == 4501
    assert (await api.call("GET", "/api/devices/phone-1")).status == 404
    await trio.sleep(3)
    for table in (device_status, sims):  # nothing of it is written once more when its link ends
        query = select(table.c.device_id).where(table.c.device_id == "phone-1")
        assert await api.world.database.read(lambda connection, query=query: connection.execute(query).all()) == []
    assert api.world.gateway.presence.view("phone-1") is None
    assert (await api.call("GET", "/api/alarms?active=true")).json["items"] == []
    assert (await api.call("GET", "/api/alarms?device=phone-1")).json["items"] != []
    assert (await api.call("GET", f"/api/commands/{waiting}")).json["state"] == "cancelled"


async def test_a_long_poll_answers_with_the_next_report(autojump_clock: MockClock, api: Api):
    async with api.world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        empty = (await api.call("GET", "/api/reports?wait=0")).json
        heard: list[object] = []

        async def poll() -> None:
            heard.append((await api.call("GET", f"/api/reports?wait=30&type=sms_message&after={empty['next_cursor']}")).json)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await trio.sleep(5)
            await report(phone, "sms_message", phone_number="+1", message="in", direction="received")
        assert trio.current_time() - began < 7
        (page,) = heard
        assert [item["type"] for item in page["items"]] == ["sms_message"]  # type: ignore[index]


async def test_a_new_enrolment_key_is_shown_as_a_code_while_it_is_fresh(autojump_clock: MockClock, api: Api):
    made = await api.call("POST", "/api/enrolment-keys", {"label": "shop", "group": "shop", "max_devices": 1, "expires_days": 1})
    assert made.status == 201
    key_id, key = made.json["id"], made.json["key"]
    png = await api.call("GET", f"/api/enrolment-keys/{key_id}/qr.png")
    assert (png.status, png.headers["content-type"], png.body[:4]) == (200, "image/png", b"\x89PNG")
    assert b"<svg" in (await api.call("GET", f"/api/enrolment-keys/{key_id}/qr.svg")).body
    headers = phone_headers("new", key=key)
    async with api.world.dial("/ws", headers) as phone:
        await hear(phone)
    assert (await api.call("GET", "/api/devices/new")).json["device_group"] == "shop"
    await trio.sleep(301)
    assert (await api.call("GET", f"/api/enrolment-keys/{key_id}/qr.png")).status == 410
    assert (await api.call("DELETE", f"/api/enrolment-keys/{key_id}")).status == 200
