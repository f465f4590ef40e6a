"""The file of reports, read as an operator's feed reads it."""

from signal_gateway.domain.access import Scope
from signal_gateway.domain.fleet import ReportFilter
from signal_gateway.domain.report import Report
from signal_gateway.storage.database import Database
from signal_gateway.storage.fleet import find_reports_after

REPORTS_MAX = 1000


async def filed(database: Database, kind: str | None = None) -> list[Report]:
    """What was filed, of this kind or of any, oldest first."""
    return await database.read(lambda connection: find_reports_after(connection, Scope(), ReportFilter(kind), 0, REPORTS_MAX))
