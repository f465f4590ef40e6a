"""Keys: made, listed, revoked, recognised (CONTRACT.md §3, §4). Of a key only its digest is kept, in the database and in memory."""

import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.access import WHOLE_FLEET, Role, Scope
from signal_gateway.domain.credential import ApiKey, Credential, CredentialKind, key_id_of, new_key
from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.domain.events import CredentialRevoked
from signal_gateway.domain.ids import is_client_id
from signal_gateway.observe.logs import logger
from signal_gateway.storage import credentials as stored_keys
from signal_gateway.storage.credentials import Endings
from signal_gateway.storage.database import Database

log = logger("auth")

REVOCATION_POLL_S = 2.0
TELL_AGAIN_S = 10.0
"""Longer than a handshake may take (H07)."""
NO_KEY_ID = "-"
"""Looked up where a text is not in the form of our keys, so that every text costs one look."""
NO_DIGEST = bytes(32)
NOTHING_ENDED = Endings((0, 0), frozenset(), frozenset())
CONFIGURED = "config:"
CREDENTIAL_ID_CHARS = 64


class KeyConfigurationError(Exception):
    """A key of the configuration cannot be used. The sentence names the entry, never the key."""


class Credentials:
    """All keys there are: those of the database, and those of the configuration, which live in memory as digests.

    `api_keys` are `client:token`, `enrolment_keys` are `name:key`; the first colon divides. Used by the server, which also runs `run`,
    and by the command line, which does not.
    """

    def __init__(
        self,
        database: Database,
        bus: Bus,
        pepper: bytes,
        wall_ms: Callable[[], int],
        api_keys: Sequence[str] = (),
        enrolment_keys: Sequence[str] = (),
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._database = database
        self._bus = bus
        self._pepper = pepper
        self._wall_ms = wall_ms
        self.random_bytes = random_bytes
        """Where new keys come from: the system, or the seed of a simulated world."""
        self._clients = self._configured("auth.api_keys", api_keys, CredentialKind.CLIENT)
        enrolment = self._configured("auth.enrolment_keys", enrolment_keys, CredentialKind.ENROLMENT)
        self._enrolment = {credential.digest: credential for credential in enrolment.values()}
        if len(self._enrolment) < len(enrolment):
            raise KeyConfigurationError("auth.enrolment_keys: two names have the same key")

    async def create(
        self,
        kind: CredentialKind,
        label: str = "",
        client_id: str | None = None,
        device_group: str | None = None,
        max_devices: int | None = None,
        expires_at: int | None = None,
        actor: str = "cli",
        role: Role | None = None,
        scope: Scope = WHOLE_FLEET,
    ) -> tuple[str, str]:
        """Make a key; returns its id, and the key itself, which nobody can show again. A client or device key is for one `client_id`.

        An operator key has a role, and no client. `expires_at` is in milliseconds since 1970, UTC.
        Raises ValueError, DatabaseDown, DiskFull.
        """
        if kind in (CredentialKind.CLIENT, CredentialKind.DEVICE) and not is_client_id(client_id or ""):
            raise ValueError(f"a {kind.value} key is for one client: {client_id!r} cannot name one")
        if (kind is CredentialKind.OPERATOR) != (role is not None):
            raise ValueError("an operator key has a role, and no other key has one")
        key, credential = self.draft(kind, label, client_id, device_group, max_devices, expires_at)
        credential = replace(credential, role=role, scope=scope)
        await self._database.write(lambda connection: stored_keys.create(connection, credential, actor))
        log.info("key created", credential_id=key.id, kind=kind.value, actor=actor)
        return key.id, key.text

    def draft(
        self,
        kind: CredentialKind,
        label: str = "",
        client_id: str | None = None,
        device_group: str | None = None,
        max_devices: int | None = None,
        expires_at: int | None = None,
    ) -> tuple[ApiKey, Credential]:
        """A new key that is not kept yet, and what is to be kept of it."""
        key = new_key(self.random_bytes)
        now = self._wall_ms()
        return key, Credential(key.id, kind, self.digest(key.text), label, client_id, device_group, max_devices, now, expires_at)

    async def list(self) -> list[Credential]:
        """Every stored key, newest first, revoked ones too."""
        return await self._database.read(stored_keys.find_all)

    async def find(self, credential_id: str) -> Credential | None:
        """One stored key, live or not. Raises DatabaseDown."""
        return await self._database.look_up(lambda connection: stored_keys.find(connection, credential_id))

    async def revoke(self, credential_id: str, actor: str = "cli") -> bool:
        """Make a stored key worthless. Its links on this server end now, those on others within REVOCATION_POLL_S.

        False when there is no such key, or it was revoked before. A key of the configuration is revoked by removing it there.
        """
        now = self._wall_ms()
        revoked = await self._database.write(lambda connection: stored_keys.revoke(connection, credential_id, actor, now))
        if revoked:
            log.info("key revoked", credential_id=credential_id, actor=actor)
            self._bus.publish(CredentialRevoked(credential_id))
        return revoked

    def digest(self, key: str) -> bytes:
        """What is kept and compared instead of a key: HMAC-SHA256 under the pepper. A fast hash is enough for 256 random bits."""
        return hmac.digest(self._pepper, key.encode("utf-8", "surrogatepass"), sha256)

    def enrolment_key(self, digest: bytes) -> Credential | None:
        """The enrolment key of the configuration that has this digest."""
        found = self._enrolment.get(digest)
        return found if is_same(digest, found) else None

    def client_token(self, client_id: str) -> Credential | None:
        """The token that the configuration gives this client."""
        return self._clients.get(client_id)

    async def run(self, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Watch for keys that others revoke, and for client and device keys whose time ends, and publish CredentialRevoked for each.

        It is published again for TELL_AGAIN_S: a client may have shown its key before the end and get its link after it.
        What was revoked before the start has no link and is not told. A database that is down is asked again later.
        """
        known: Endings | None = None
        told: dict[str, tuple[float, CredentialRevoked]] = {}
        checked_ms = self._wall_ms()
        task_status.started()
        while True:
            now_s, now_ms = trio.current_time(), self._wall_ms()
            try:
                before = known or NOTHING_ENDED
                endings = await self._database.read(lambda connection: stored_keys.find_endings(connection, before, checked_ms, now_ms))  # noqa: B023
            except (DatabaseDown, DiskFull):
                log.warning("ended keys cannot be read", retry_after_s=REVOCATION_POLL_S)
            else:
                gone = endings.expired | (endings.revoked - known.revoked if known else frozenset())
                known, checked_ms = endings, now_ms
                for credential_id in sorted(gone - told.keys()):
                    log.info("key ended", credential_id=credential_id)
                    told[credential_id] = now_s, CredentialRevoked(credential_id, credential_id in endings.expired)
            for credential_id, (since_s, event) in list(told.items()):
                self._bus.publish(event)
                if now_s - since_s >= TELL_AGAIN_S:
                    del told[credential_id]
            await trio.sleep(REVOCATION_POLL_S)

    def _configured(self, setting: str, entries: Sequence[str], kind: CredentialKind) -> Mapping[str, Credential]:
        found: dict[str, Credential] = {}
        for number, entry in enumerate(entries, 1):
            name, colon, key = entry.partition(":")
            if not colon or not key or not is_client_id(name):
                raise KeyConfigurationError(f"{setting}: entry {number} is not of the form name:key")
            if name in found:
                raise KeyConfigurationError(f"{setting}: {name} stands there twice")
            found[name] = Credential(_configured_id(name), kind, self.digest(key), name, name if kind is CredentialKind.CLIENT else None)
        return found


def stored_key_id(key: str) -> str:
    """Under which id to look for a key in the database."""
    return key_id_of(key) or NO_KEY_ID


def is_same(digest: bytes, credential: Credential | None) -> bool:
    """Whether a key of this digest is the credential; the same work when there is none."""
    same = hmac.compare_digest(digest, NO_DIGEST if credential is None else credential.digest)
    return same and credential is not None


def _configured_id(name: str) -> str:
    """`config:<name>`; a name too long for its column is told by a digest instead."""
    plain = f"{CONFIGURED}{name}"
    return plain if len(plain) <= CREDENTIAL_ID_CHARS else f"{CONFIGURED}{sha256(name.encode()).hexdigest()[:40]}"
