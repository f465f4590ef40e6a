"""Routes of devices: the fleet in pages, one device, its settings, its own key, its end."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import Field

from signal_gateway.api.access import Admin, Commander, Viewer
from signal_gateway.api.bodies import StrictRoute
from signal_gateway.api.desk import Desk, answer
from signal_gateway.api.shapes import NOT_FOUND, STORES, Answer, Asked, Body, DevicePath, Id, Page, Word, page, told
from signal_gateway.domain.errors import BadRequest
from signal_gateway.domain.fleet import FleetFilter
from signal_gateway.services.devices import DeviceView

Percent = Annotated[int, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
GuardSeconds = Annotated[int, Field(ge=0, le=86_400)]


class DevicesAsked(Asked):
    """Filters of the list of devices."""

    group: Word | None = None
    site: Word | None = None
    status: Literal["online", "offline", "error", "maintenance"] | None = None


class SettingsChange(Body):
    """Any of the 19 settings of a phone (T-10); what is left out stays."""

    battery_low_threshold: Percent | None = None
    error_count_threshold: Annotated[int, Field(ge=1, le=1000)] | None = None
    offline_threshold_minutes: Annotated[int, Field(ge=1, le=10_080)] | None = None
    signal_low_threshold: Annotated[int, Field(ge=0, le=4)] | None = None
    low_balance_threshold: Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,4})?$")] | None = None
    enable_battery_alarms: bool | None = None
    enable_error_alarms: bool | None = None
    enable_offline_alarms: bool | None = None
    enable_signal_alarms: bool | None = None
    enable_sim_balance_alarms: bool | None = None
    auto_disable_sim_on_alarm: bool | None = None
    sim1_daily_sms_limit: Count | None = None
    sim1_monthly_sms_limit: Count | None = None
    sim2_daily_sms_limit: Count | None = None
    sim2_monthly_sms_limit: Count | None = None
    enable_sms_limits: bool | None = None
    sms_limit_reset_hour: Annotated[int, Field(ge=0, le=23)] | None = None
    sim1_guard_interval: GuardSeconds | None = None
    sim2_guard_interval: GuardSeconds | None = None


class DeviceAnswer(Answer):
    """One device."""

    device_id: Id
    kind: str
    device_group: str | None
    sitename: str | None
    manufacturer: str | None
    model: str | None
    status: Literal["online", "offline", "error", "maintenance"]
    last_activity: int | None
    fresh: bool
    created_at: int


class StatusAnswer(Answer):
    """What is known of a device's condition. Times are milliseconds since 1970, UTC."""

    device_id: Id
    status: Literal["online", "offline", "error", "maintenance"]
    link: Literal["up", "down"]
    last_activity: int | None
    fresh: bool
    battery_level: int | None
    battery_status: str | None
    signal_strength: int | None
    signal_dbm: int | None
    network_type: str | None
    sim_cards: list[dict[str, Any]] | None
    location: dict[str, float] | None
    settings_version: int
    connected_at: int | None
    """Since when the link has been up."""


class SettingsAnswer(Answer):
    """All settings of a phone, and how often they were changed, plus one."""

    settings: dict[str, Any]
    version: int


class KeyAnswer(Answer):
    """A fresh key; `key` is shown this once."""

    id: str
    key: str


class Deleted(Answer):
    """What is gone."""

    device_id: str
    status: Literal["deleted"]


def device_routes(desk: Desk) -> APIRouter:
    """Routes under `/api/devices`, but those of its commands."""
    router = APIRouter(prefix="/api/devices", tags=["devices"], route_class=StrictRoute)
    devices = desk.devices

    @router.get("", summary="List devices", response_model=Page)
    async def list_devices(operator: Viewer, asked: Annotated[DevicesAsked, Query()]) -> Response:
        wanted = FleetFilter(asked.group, asked.site, asked.status)
        views, behind = await devices.find(operator.scope, wanted, asked.position or 0, asked.limit)
        return answer(page([device_told(view) for view in views], behind))

    @router.get("/{device_id}", summary="One device", response_model=DeviceAnswer, responses=NOT_FOUND)
    async def get_device(operator: Viewer, device_id: DevicePath) -> Response:
        return answer(device_told(await devices.get(device_id, operator.scope)))

    @router.get("/{device_id}/status", summary="Its condition now", response_model=StatusAnswer, responses=NOT_FOUND)
    async def get_status(operator: Viewer, device_id: DevicePath) -> Response:
        return answer(status_told(await devices.get(device_id, operator.scope)))

    @router.delete("/{device_id}", summary="Forget it, and end its link", response_model=Deleted, responses=NOT_FOUND | STORES)
    async def delete_device(operator: Admin, device_id: DevicePath) -> Response:
        await devices.delete(device_id, operator)
        return answer({"device_id": device_id, "status": "deleted"})

    @router.get("/{device_id}/settings", summary="Its settings", response_model=SettingsAnswer, responses=NOT_FOUND)
    async def get_settings(operator: Viewer, device_id: DevicePath) -> Response:
        settings, version = await devices.settings(device_id, operator.scope)
        return answer({"settings": settings, "version": version})

    @router.patch(
        "/{device_id}/settings",
        summary="Change some of its settings, and tell it",
        response_model=SettingsAnswer,
        responses=NOT_FOUND | STORES | told(400, "Nothing is to be changed, or the body is not JSON."),
    )
    async def change_settings(operator: Commander, device_id: DevicePath, change: SettingsChange) -> Response:
        changes = change.model_dump(exclude_none=True)
        if not changes:
            raise BadRequest("Name at least one setting and its new value", "nothing_to_change")
        settings, version = await devices.change_settings(device_id, changes, operator)
        return answer({"settings": settings, "version": version})

    @router.post(
        "/{device_id}/key", summary="Make a key of its own", status_code=201, response_model=KeyAnswer, responses=NOT_FOUND | STORES
    )
    async def new_key(operator: Admin, device_id: DevicePath) -> Response:
        key_id, key = await devices.new_key(device_id, operator)
        return answer({"id": key_id, "key": key}, 201)

    return router


def device_told(view: DeviceView) -> dict[str, Any]:
    """A device in a list."""
    record, presence = view.record, view.presence
    return {
        "device_id": record.device_id,
        "kind": record.kind,
        "device_group": record.device_group,
        "sitename": record.sitename,
        "manufacturer": record.manufacturer,
        "model": record.model,
        "status": view.status,
        "last_activity": presence.last_activity_at,
        "fresh": presence.fresh,
        "created_at": record.created_at,
    }


def status_told(view: DeviceView) -> dict[str, Any]:
    """A device's condition in full (CONTRACT.md §6)."""
    presence = view.presence
    return {
        "device_id": view.record.device_id,
        "status": view.status,
        "link": "up" if presence.linked else "down",
        "last_activity": presence.last_activity_at,
        "fresh": presence.fresh,
        **{name: getattr(presence.status, name) for name in msgspec.structs.asdict(presence.status)},
        "settings_version": view.record.settings_version,
        "connected_at": presence.connected_at,
    }
