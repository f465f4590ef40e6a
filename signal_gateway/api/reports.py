"""Routes of reports: across the fleet with a long poll, and of one device."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from protocol.phone_reports import REPORT_TYPES
from signal_gateway.api.access import Viewer, proof_of
from signal_gateway.api.desk import Desk, answer
from signal_gateway.api.shapes import NOT_FOUND, PAGE_ITEMS, PAGE_ITEMS_MAX, Answer, DevicePath, Id, Word
from signal_gateway.domain.access import Operator
from signal_gateway.domain.fleet import ReportFilter
from signal_gateway.domain.report import Report

CURSOR = r"^[0-9a-f]{1,13}$"


def _known(report_type: str) -> str:
    if report_type not in REPORT_TYPES:
        raise ValueError(f"is one of {', '.join(sorted(REPORT_TYPES))}")
    return report_type


ReportType = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": sorted(REPORT_TYPES)})]


class OfDeviceAsked(BaseModel):
    """Which reports of one device."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=PAGE_ITEMS_MAX)] = PAGE_ITEMS
    type: Annotated[ReportType | None, Field(description="Of this type alone.")] = None
    after: Annotated[
        str | None, Field(pattern=CURSOR, description="`next_cursor` of the answer before; without it from the beginning.")
    ] = None
    wait: Annotated[
        float, Field(ge=0, le=3600, allow_inf_nan=False, description="Seconds to wait for the first report when there is none yet.")
    ] = 0


class ReportsAsked(OfDeviceAsked):
    """Which reports of the fleet."""

    group: Word | None = None
    device: Id | None = None


class ReportAnswer(Answer):
    """One report as the device sent it; `data` with subscriber ids redacted. Times are milliseconds since 1970, UTC."""

    id: str
    device_id: str
    type: str
    data: dict[str, Any]
    received_at: int
    reported_at: int | None
    message_id: str | None


class ReportsAnswer(Answer):
    """Reports in the order in which they were filed. Give `next_cursor` as `after` to go on: it is there even when nothing new is."""

    items: list[ReportAnswer]
    next_cursor: str


def report_routes(desk: Desk) -> APIRouter:
    """`GET /api/reports` and `GET /api/devices/{device_id}/reports`."""
    router = APIRouter(tags=["reports"])

    async def find(operator: Operator, request: Request, wanted: ReportFilter, asked: OfDeviceAsked) -> Response:
        after = 0 if asked.after is None else int(asked.after, 16)
        found = await desk.feed.find(operator.scope, wanted, after, asked.limit, asked.wait, proof_of(request))
        last = found[-1].id if found else None
        return answer({"items": [report_told(report) for report in found], "next_cursor": f"{after if last is None else last:x}"})

    @router.get("/api/reports", summary="Reports of the fleet, with a long poll", response_model=ReportsAnswer)
    async def fleet_reports(operator: Viewer, request: Request, asked: Annotated[ReportsAsked, Query()]) -> Response:
        return await find(operator, request, ReportFilter(asked.type, asked.device, asked.group), asked)

    @router.get(
        "/api/devices/{device_id}/reports",
        summary="Reports of one device, with a long poll",
        response_model=ReportsAnswer,
        responses=NOT_FOUND,
    )
    async def device_reports(
        operator: Viewer, request: Request, device_id: DevicePath, asked: Annotated[OfDeviceAsked, Query()]
    ) -> Response:
        await desk.devices.get(device_id, operator.scope)
        return await find(operator, request, ReportFilter(asked.type, device_id), asked)

    return router


def report_told(report: Report) -> dict[str, Any]:
    """A report as it is sent."""
    return {
        "id": f"{report.id or 0:x}",
        "device_id": report.device_id,
        "type": report.type,
        "data": report.data,
        "received_at": report.received_at,
        "reported_at": report.reported_at,
        "message_id": report.message_id,
    }
