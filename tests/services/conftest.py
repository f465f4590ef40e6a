"""A gateway's services on in-memory SQLite and virtual time."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from signal_gateway.bus.local import LocalBus
from signal_gateway.domain.device import DeviceDescription
from signal_gateway.domain.events import ClientUnregistered, CredentialRevoked, DeviceLinked, DeviceSeen, DeviceUnlinked, ReportFiled
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.attempts import Attempts
from signal_gateway.services.authentication import Authentication
from signal_gateway.services.credentials import Credentials
from signal_gateway.services.device_directory import DeviceDirectory
from signal_gateway.services.guests import Guests
from signal_gateway.services.operators import Operators
from signal_gateway.services.registration import RegisterRequest, Registration
from signal_gateway.services.subscriber_ids import SubscriberIds
from signal_gateway.services.tokens import GuestSigner
from signal_gateway.storage import records
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.records import AuditEntry
from signal_gateway.storage.settings import StorageSettings

PEPPER = b"p" * 32
TOKEN_SECRET = "t" * 64
STARTED_MS = 1_700_000_000_000
EVENTS = (ClientUnregistered, CredentialRevoked, DeviceLinked, DeviceSeen, DeviceUnlinked, ReportFiled)
ADDRESS = "192.0.2.1"
CLIENT_TOKEN = "canary-client-token"
ENROLMENT_KEY = "canary-enrolment-key"
OTHER_KEY = "canary-other-key"


class CountedDatabase:
    """Passes everything on to the real one, and counts."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.reads = self.writes = 0

    async def read(self, work: Callable[[Any], Any]) -> Any:
        self.reads += 1
        return await self.database.read(work)

    async def look_up(self, work: Callable[[Any], Any]) -> Any:
        self.reads += 1
        return await self.database.look_up(work)

    async def write(self, work: Callable[[Any], Any]) -> Any:
        self.writes += 1
        return await self.database.write(work)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


class CountedWriter:
    """The same for the batch writer: the rows that were put, and the calls that were waited for."""

    def __init__(self, writer: BatchWriter) -> None:
        self.writer = writer
        self.rows: list[Any] = []
        self.calls = 0

    def put(self, rows: Any, on_durable: Callable[[], None] | None = None, on_failed: Callable[[], None] | None = None) -> bool:
        self.rows += rows
        return self.writer.put(rows, on_durable, on_failed)

    async def call(self, work: Callable[[Any], Any]) -> Any:
        self.calls += 1
        return await self.writer.call(work)


@dataclass
class Services:
    """What the tests of services have in hand."""

    database: Any
    writer: Any
    metrics: Metrics
    bus: LocalBus
    events: list[object] = field(default_factory=list)

    def wall_ms(self) -> int:
        return STARTED_MS + round((trio.current_time() - self.started_s) * 1000)

    def start(self) -> None:
        self.started_s = trio.current_time()
        self.random = Random(7)
        for event in EVENTS:
            self.bus.subscribe(event, self.events.append)
        self.subscriber_ids = SubscriberIds(PEPPER)
        self.configure()

    def configure(self, registration: Any = "enrolment", api_keys: Any = None, enrolment_keys: Any = None, **limits: Any) -> None:
        self.credentials = Credentials(
            self.database,
            self.bus,
            PEPPER,
            self.wall_ms,
            api_keys=[f"agent-1:{CLIENT_TOKEN}"] if api_keys is None else api_keys,
            enrolment_keys=[f"demo:{ENROLMENT_KEY}", f"other:{OTHER_KEY}"] if enrolment_keys is None else enrolment_keys,
            random_bytes=self.random.randbytes,
        )
        self.attempts = Attempts(self.writer, self.metrics, self.wall_ms, **limits)
        self.operators = Operators(self.database, self.bus, self.credentials, None, Metrics(), TOKEN_SECRET, self.wall_ms)
        self.operators.random_bytes = self.random.randbytes
        self.authentication = Authentication(
            self.database,
            self.writer,
            self.bus,
            self.credentials,
            self.operators,
            self.attempts,
            self.subscriber_ids,
            DeviceDirectory(self.database, self.bus, PhoneSettings(error_count_threshold=7)),
            self.wall_ms,
        )
        self.guests = Guests(GuestSigner(TOKEN_SECRET), lambda token_id: False, self.wall_ms)
        self.registration = Registration(
            self.database, self.writer, self.bus, self.credentials, self.operators, self.attempts, self.guests, registration, self.wall_ms
        )

    async def phone(
        self, key: str = ENROLMENT_KEY, device_id: str = "phone-1", address: str = ADDRESS, wants_key: bool = False, **said: Any
    ) -> Any:
        description = DeviceDescription(device_id=device_id, queue_name=device_id, **said)
        return await self.authentication.phone(key, description, address, wants_key)

    async def register(self, client_id: str = "agent-1", token: str = CLIENT_TOKEN, address: str = ADDRESS, **said: Any) -> Any:
        return await self.registration.register(RegisterRequest(client_id=client_id, token=token, version="1.0.0", **said), address)

    async def audited(self) -> list[tuple[str, str, str]]:
        """(action, subject, outcome) of the audit trail, oldest first."""
        return [(entry.action, entry.subject, entry.outcome) for entry in await self.audit_entries()]

    async def audit_entries(self) -> list[AuditEntry]:
        await self.settle()
        entries = await self.database.database.read(lambda connection: records.find_audit(connection, limit=1000))
        return list(reversed(entries))

    async def settle(self) -> None:
        """Until what was put is written."""
        await self.writer.writer.call(lambda connection: None)

    def of(self, event_type: type) -> list[Any]:
        return [event for event in self.events if type(event) is event_type]


@pytest.fixture
async def services(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> AsyncIterator[Services]:
    metrics = Metrics()
    database = InlineDatabase()
    writer = BatchWriter(database, StorageSettings(), metrics)
    await nursery.start(writer.run)
    made = Services(CountedDatabase(database), CountedWriter(writer), metrics, LocalBus(metrics))
    made.start()
    yield made
    writer.close()


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines
