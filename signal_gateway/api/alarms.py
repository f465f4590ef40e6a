"""Routes of alarms: the list, and the word of somebody who has seen one (T-51 to T-53)."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from signal_gateway.api.access import Commander, Viewer
from signal_gateway.api.desk import Desk, answer
from signal_gateway.api.shapes import ID_MAX, NOT_FOUND, STORES, Answer, Asked, Id, Page, page
from signal_gateway.domain.alarm import Alarm, AlarmType

AlarmPath = Annotated[int, Path(ge=0, le=ID_MAX, description="The number of an alarm.")]


class AlarmsAsked(Asked):
    """Filters of the list of alarms."""

    device: Id | None = None
    type: AlarmType | None = None
    active: bool | None = None
    """True: open ones; false: cleared ones."""


class AlarmAnswer(Answer):
    """One alarm, from its raising to its clearing."""

    id: int
    device_id: str
    type: str
    severity: str
    sim_slot: int | None
    message: str
    source: str
    occurrences: int
    raised_at: int
    last_at: int
    acknowledged_at: int | None
    acknowledged_by: str | None
    cleared_at: int | None


def alarm_routes(desk: Desk) -> APIRouter:
    """All routes of alarms."""
    router = APIRouter(tags=["alarms"])
    alarms = desk.alarms

    @router.get("/api/alarms", summary="Alarms, newest first", response_model=Page)
    async def list_alarms(operator: Viewer, asked: Annotated[AlarmsAsked, Query()]) -> Response:
        wanted: dict[str, Any] = {"device_id": asked.device, "type": asked.type, "active": asked.active}
        found = await alarms.find(operator, **wanted, before=asked.position, limit=asked.limit + 1)
        shown = found[: asked.limit]
        return answer(page([alarm_told(alarm) for alarm in shown], shown[-1].id if len(found) > asked.limit else None))

    @router.post(
        "/api/alarms/{alarm_id}/acknowledge",
        summary="Say that somebody has seen it",
        response_model=AlarmAnswer,
        responses=NOT_FOUND | STORES,
    )
    async def acknowledge(operator: Commander, alarm_id: AlarmPath) -> Response:
        return answer(alarm_told(await alarms.acknowledge(alarm_id, operator)))

    return router


def alarm_told(alarm: Alarm) -> dict[str, Any]:
    """An alarm as it is sent."""
    return {name: getattr(alarm, name) for name in AlarmAnswer.model_fields}
