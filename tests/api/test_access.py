"""Who may call what: every route with nobody, with a wrong token, and with each role (H03, H05)."""

import json
from base64 import urlsafe_b64decode

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.access import Role, Scope
from signal_gateway.domain.credential import CredentialKind
from tests.api.conftest import Api
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import report

SMS = {"sim_slot": 0, "phone_number": "+905551234567", "message": "hello"}
ROUTES: list[tuple[str, str, object, Role | None]] = [
    ("GET", "/api/me", None, Role.VIEWER),
    ("GET", "/api/devices", None, Role.VIEWER),
    ("GET", "/api/devices/phone-1", None, Role.VIEWER),
    ("GET", "/api/devices/phone-1/status", None, Role.VIEWER),
    ("GET", "/api/devices/phone-1/reports", None, Role.VIEWER),
    ("GET", "/api/devices/phone-1/settings", None, Role.VIEWER),
    ("PATCH", "/api/devices/phone-1/settings", {"sim1_guard_interval": 0}, Role.OPERATOR),
    ("POST", "/api/devices/phone-1/key", None, Role.ADMIN),
    ("POST", "/api/devices/phone-1/send-sms", SMS, Role.OPERATOR),
    ("POST", "/api/devices/phone-1/send-ussd", {"sim_slot": 0, "ussd_code": "*123#"}, Role.OPERATOR),
    ("POST", "/api/devices/phone-1/send-rcs", SMS, Role.OPERATOR),
    ("POST", "/api/devices/phone-1/find", {"message": "ring"}, Role.OPERATOR),
    ("POST", "/api/devices/phone-1/alarm-start", {"alarm_type": "battery_low", "message": "low"}, Role.OPERATOR),
    ("POST", "/api/devices/phone-1/alarm-stop", None, Role.OPERATOR),
    ("POST", "/api/commands", [{"to": {"device": "phone-1"}, "kind": "send_sms", "data": SMS}], Role.OPERATOR),
    ("GET", "/api/commands", None, Role.VIEWER),
    ("GET", "/api/dead-letters", None, Role.VIEWER),
    ("GET", "/api/reports", None, Role.VIEWER),
    ("GET", "/api/alarms", None, Role.VIEWER),
    ("GET", "/api/rooms", None, Role.VIEWER),
    ("POST", "/api/rooms", {}, Role.OPERATOR),
    ("GET", "/api/rooms/none", None, Role.VIEWER),
    ("DELETE", "/api/rooms/none", None, Role.OPERATOR),
    ("DELETE", "/api/rooms/none/members/guest-1?ban=true", None, Role.OPERATOR),
    ("POST", "/api/enrolment-keys", {"label": "x"}, Role.ADMIN),
    ("GET", "/api/enrolment-keys", None, Role.ADMIN),
    ("POST", "/api/token/refresh", None, Role.DEVICE),
    ("DELETE", "/api/tokens/abcdefgh", None, Role.ADMIN),
    ("GET", "/health", None, None),
]


async def enrol(api: Api, *device_ids: str, **info: str) -> None:
    for device_id in device_ids:
        async with api.world.dial("/ws", phone_headers(device_id, **info)) as phone:
            await hear(phone)
    await trio.sleep(1)


@pytest.mark.parametrize(("method", "path", "body", "needs"), ROUTES, ids=[f"{method} {path}" for method, path, _, _ in ROUTES])
async def test_each_route_asks_for_its_role(autojump_clock: MockClock, api: Api, method: str, path: str, body: object, needs: Role | None):
    await enrol(api, "phone-1")
    nobody = await api.call(method, path, body, None)
    if needs is None:
        assert nobody.status == 200
        return
    assert (nobody.status, nobody.headers["www-authenticate"]) == (401, "Bearer")
    wrong = await api.call(method, path, body, "a.wrong.token")
    assert wrong.status == 401
    assert wrong.headers["content-type"] == "application/problem+json"
    assert wrong.json["error"] == wrong.json["detail"]
    for role in Role:
        answered = await api.call(method, path, body, role.value)
        assert (answered.status == 403) == (not role.may_as(needs)), (role, answered.body)
        assert answered.status < 500
        if answered.status == 403:
            assert answered.json["code"] == "role"


async def test_what_is_out_of_scope_looks_as_if_it_were_not_there(autojump_clock: MockClock, api: Api):
    await enrol(api, "phone-1")
    await enrol(api, "phone-2", device_group="shop")
    sent = (await api.call("POST", "/api/devices/phone-1/send-sms", SMS)).json["message_id"]
    for method, path, body in (
        ("GET", "/api/devices/phone-1", None),
        ("GET", "/api/devices/phone-1/status", None),
        ("GET", "/api/devices/phone-1/settings", None),
        ("PATCH", "/api/devices/phone-1/settings", {"sim1_guard_interval": 0}),
        ("POST", "/api/devices/phone-1/send-sms", SMS),
        ("GET", f"/api/commands/{sent}", None),
        ("DELETE", f"/api/commands/{sent}", None),
    ):
        hidden, absent = [
            await api.call(method, each, body, "shopkeeper") for each in (path, path.replace("phone-1", "nobody").replace(sent, "nothing"))
        ]
        assert (hidden.status, hidden.json) == (404, absent.json)
    assert [each["device_id"] for each in (await api.call("GET", "/api/devices", who="shopkeeper")).json["items"]] == ["phone-2"]
    assert (await api.call("GET", "/api/commands", who="shopkeeper")).json["items"] == []
    assert (await api.call("POST", "/api/devices/phone-2/send-sms", SMS, "shopkeeper")).status == 202
    for to, status in (({"group": "shop"}, 200), ({"group": "other"}, 207), ({"device": "phone-1"}, 207), ({"any": True}, 200)):
        many = [{"to": to, "kind": "send_sms", "data": {"phone_number": "+905551234567", "message": "x"}}]
        assert (await api.call("POST", "/api/commands", many, "shopkeeper")).status == status


async def test_tokens_end_by_their_time_and_by_revocation(autojump_clock: MockClock, api: Api):
    token = await api.issue("short", Role.VIEWER, seconds=60)
    assert (await api.call("GET", "/api/me", who="short")).json["subject"] == "short"
    await trio.sleep(61)
    over = await api.call("GET", "/api/me", who="short")
    assert (over.status, over.json["code"]) == (401, "expired")
    token = await api.issue("gone", Role.VIEWER)
    assert (await api.call("GET", "/api/me", who="gone")).status == 200
    token_id = api.world.gateway.operators.token_id_of(token)
    assert (await api.call("DELETE", f"/api/tokens/{token_id}")).status < 300
    assert (await api.call("GET", "/api/me", who="gone")).status == 401


@pytest.mark.parametrize("revoked", [0, 1, 2], ids=["the first", "one between", "the newest"])
async def test_who_revokes_a_token_revokes_all_that_were_refreshed_with_it(autojump_clock: MockClock, api: Api, revoked: int):
    """Or whoever has stolen one could refresh it for ever."""
    family = [await api.issue("gone", Role.VIEWER)]
    stranger = await api.issue("gone", Role.VIEWER)
    for _ in range(2):
        family.append((await api.call("POST", "/api/token/refresh", who=family[-1])).json["token"])
    ids = [json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))["jti"] for token in family]
    assert len(set(ids)) == 3
    assert [(await api.call("GET", "/api/me", who=token)).status for token in family] == [200, 200, 200]
    assert (await api.call("DELETE", f"/api/tokens/{ids[revoked]}")).status < 300
    assert [(await api.call("GET", "/api/me", who=token)).status for token in family] == [401, 401, 401]
    assert (await api.call("GET", "/api/me", who=stranger)).status == 200


async def test_a_token_that_has_ended_still_names_those_refreshed_from_it(autojump_clock: MockClock, api: Api):
    first = await api.issue("short", Role.VIEWER, seconds=5)
    newer = (await api.call("POST", "/api/token/refresh", who=first)).json["token"]
    await trio.sleep(6)
    operators = api.world.gateway.operators
    token_id = operators.token_id_of(first)
    assert token_id is not None
    assert (await api.call("GET", "/api/me", who=newer)).status == 200
    await operators.revoke(token_id)
    assert (await api.call("GET", "/api/me", who=newer)).status == 401
    assert operators.token_id_of(first[:-4] + "AAAA") is None


async def test_who_waits_hears_nothing_any_more_once_its_token_has_ended(autojump_clock: MockClock, api: Api):
    token_id = api.world.gateway.operators.token_id_of(await api.issue("revoked", Role.VIEWER))
    await api.issue("short", Role.VIEWER, seconds=20)
    answers: dict[str, tuple[int, float]] = {}

    async def wait(who: str) -> None:
        answered = await api.call("GET", "/api/reports?wait=60", who=who)
        answers[who] = answered.status, trio.current_time() - begun_at

    async with trio.open_nursery() as nursery:
        begun_at = trio.current_time()
        for who in ("revoked", "short", "admin"):
            nursery.start_soon(wait, who)
        await trio.sleep(2)
        assert (await api.call("DELETE", f"/api/tokens/{token_id}")).status < 300
        await trio.sleep(30)
        await enrol(api, "phone-1")
        async with api.world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            await report(phone, "sms_message", phone_number="+905551234567", message="x", direction="received")
            await trio.sleep(5)
    assert [answers[who][0] for who in ("revoked", "short", "admin")] == [401, 401, 200]
    assert answers["revoked"][1] <= 7
    assert answers["short"][1] <= 25


async def test_an_operator_key_works_until_it_is_revoked(autojump_clock: MockClock, api: Api):
    credentials = api.world.gateway.credentials
    key_id, key = await credentials.create(CredentialKind.OPERATOR, "robot", role=Role.VIEWER, scope=Scope(groups=frozenset({"shop"})))
    me = await api.call("GET", "/api/me", who=key)
    assert (me.status, me.json["role"]) == (200, "viewer")
    assert (await api.call("POST", "/api/token/refresh", who=key)).status == 409
    await credentials.revoke(key_id)
    assert (await api.call("GET", "/api/me", who=key)).status == 401


async def test_an_enrolment_key_is_no_operators(autojump_clock: MockClock, api: Api):
    assert (await api.call("GET", "/api/me", who="demo-enrolment-key")).status == 401
    async with api.world.dial("/ws", phone_headers(device_id="phone-1")) as phone:
        await hear(phone)
    key = (await api.call("POST", "/api/devices/phone-1/key")).json["key"]
    assert (await api.call("GET", "/api/me", who=key)).status == 401


async def test_who_guesses_is_told_to_wait(autojump_clock: MockClock, api: Api):
    for number in range(10):
        assert (await api.call("GET", "/api/me", who=f"a.{number}.b")).status == 401
    limited = await api.call("GET", "/api/me", who="a.11.b")
    assert limited.status == 429
    assert 0 < int(limited.headers["retry-after"]) <= 60
    assert (await api.call("GET", "/api/me")).status == 429  # a neighbour behind the same address must wait, too, unless it is known
    await trio.sleep(61)
    assert (await api.call("GET", "/api/me")).status == 200
