"""The shapes of questions that all routes share, and how the OpenAPI document tells of answers (CONTRACT.md §6).

Bodies are read strictly: a number is a number and not a text, and a field that nobody knows is refused, for it is a typing mistake.
"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Header, Path
from pydantic import BaseModel, ConfigDict, Field

from signal_gateway.api.problems import PROBLEM_TYPE
from signal_gateway.domain.errors import BadRequest

PAGE_ITEMS = 100
PAGE_ITEMS_MAX = 500
ID_MAX = 2**53 - 1
"""Ids and times of day stay within what every JSON reader can tell apart."""

Id = Annotated[str, Field(min_length=1, max_length=128)]
Word = Annotated[str, Field(min_length=1, max_length=128)]
DevicePath = Annotated[str, Path(max_length=128, description="The id of a device.")]
MessagePath = Annotated[str, Path(max_length=128, description="The message_id of a command.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[!-~]+$",
        description="The same key and body get the same answer, and nothing is done twice; the same key with another body is refused: 422.",
    ),
]
Millis = Annotated[int, Field(ge=0, le=ID_MAX, description="Milliseconds since 1970, UTC.")]


class Body(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Asked(BaseModel):
    """The query of a list. A name that nobody knows is refused: a filter that is mistyped would give everything."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=PAGE_ITEMS_MAX)] = PAGE_ITEMS
    """Items of one page."""
    cursor: Annotated[str | None, Field(pattern=r"^[0-7]?[0-9a-f]{1,15}$")] = None
    """`next_cursor` of the page before."""

    @property
    def position(self) -> int | None:
        """The number that the cursor is."""
        return None if self.cursor is None else int(self.cursor, 16)


class Answer(BaseModel):
    """What a client gets; more fields may come in later versions."""

    model_config = ConfigDict(extra="allow")


_NO_INSTANT = "{} is milliseconds since 1970, or RFC 3339 with a zone: 2026-01-31T12:00:00Z"


class Page(Answer):
    """A page of a list. `next_cursor` is null on the last one."""

    items: list[dict[str, Any]]
    next_cursor: str | None


def page(items: list[Any], next_position: int | None) -> dict[str, Any]:
    """A page as it is sent."""
    return {"items": items, "next_cursor": None if next_position is None else f"{next_position:x}"}


def instant(value: int | str | None, name: str) -> int | None:
    """Milliseconds out of milliseconds or of RFC 3339 with its zone. Raises BadRequest."""
    if value is None or isinstance(value, int):
        return value
    try:
        at = datetime.fromisoformat(value)
        millis = round(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadRequest(_NO_INSTANT.format(name), "invalid_field") from None
    if at.tzinfo is None or not 0 <= millis <= ID_MAX:
        raise BadRequest(_NO_INSTANT.format(name), "invalid_field")
    return millis


def told(status: int, text: str) -> dict[int | str, dict[str, Any]]:
    """One refusal of a route, for its OpenAPI document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"description": text, "content": {PROBLEM_TYPE: {"schema": schema}}}}


NOT_FOUND = told(404, "There is no such thing, or it is out of scope.")
STORES = told(507, "Storage is full: nothing was kept.")
"""Of every route that writes."""
