"""Who may have a link: phones by enrolment and device keys, agents by tokens (CONTRACT.md §2, §3)."""

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from signal_gateway.bus.local import Bus
from signal_gateway.domain.access import Operator
from signal_gateway.domain.credential import Credential, CredentialKind
from signal_gateway.domain.device import DeviceDescription
from signal_gateway.domain.errors import BadCredentials, ClientIdReserved, DatabaseDown, DiskFull, GatewayError, TokenExpired
from signal_gateway.domain.events import CredentialRevoked
from signal_gateway.domain.ids import is_guest_id
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.principal import LinkKind, Principal
from signal_gateway.observe.logs import logger
from signal_gateway.services.attempts import Attempts
from signal_gateway.services.credentials import NO_DIGEST, Credentials, is_same, stored_key_id
from signal_gateway.services.device_directory import DeviceDirectory
from signal_gateway.services.operators import Operators
from signal_gateway.services.subscriber_ids import SubscriberIds
from signal_gateway.storage import credentials as stored_keys
from signal_gateway.storage import devices
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database
from signal_gateway.storage.devices import ClientLogin, DeviceRecord, PhoneLogin

log = logger("auth")

PHONE = "phone"
MS_PER_DAY = 86_400_000


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[auth]` (S-45): who may come, and with what. Its repr tells no secret."""

    token_secret: str = ""
    """Signs the tokens of operators, consoles and rooms. Empty: made on first start and kept in `<data_dir>/secrets`."""
    token_expiry: int = 3600
    """Seconds that a token of ours is good for, unless it was issued for another time."""
    device_key_days: float = 0
    """Days after which a phone's own key is old: a phone that asks for device keys gets a newer one when it connects; 0 = never."""
    token_warning_s: float = 60.0
    """Seconds before its token ends that a link is told so (TOKEN_REFRESH), once; 0 = not told."""
    auth_method: Literal["token"] = "token"
    """How clients say who they are (seed 003): by token is the one way there is."""
    api_keys: tuple[str, ...] = ()
    """Tokens of agents, each `client:token`."""
    enrolment_keys: tuple[str, ...] = ()
    """Keys that bring phones and agents in, each `name:key`."""
    registration: Literal["open", "enrolment", "closed"] = "enrolment"
    """Who may REGISTER: anybody, holders of an enrolment key or a token issued for the id, or the latter alone (C-09)."""
    deadline_s: float = 5.0
    """Seconds within which a link must authenticate."""
    max_failed_per_id_per_minute: int = 5
    """Failed attempts per (id, address) and minute before 429; 0 = unlimited."""
    failed_attempts_kept: int = 10_000
    """How many ids and how many addresses that failed are remembered at a time."""
    operators_kept: int = 1000
    """Tokens and operator keys that were proved and are remembered, so that the next request with one need not look it up."""
    audited_refusals_per_s: float = 10.0
    """Lines a second that refused attempts may add to the audit trail and the log, after a burst of 100; 0 = unlimited."""

    def __post_init__(self) -> None:
        if min(self.token_expiry, self.deadline_s, self.failed_attempts_kept, self.operators_kept) <= 0:
            raise ValueError("token_expiry, deadline_s, failed_attempts_kept and operators_kept must be above 0")
        if min(self.max_failed_per_id_per_minute, self.audited_refusals_per_s, self.token_warning_s, self.device_key_days) < 0:
            raise ValueError("max_failed_per_id_per_minute, audited_refusals_per_s, token_warning_s, device_key_days must not be below 0")

    def __repr__(self) -> str:
        keys = f"{len(self.api_keys)} api_keys, {len(self.enrolment_keys)} enrolment_keys"
        return f"AuthSettings(registration={self.registration!r}, {keys})"


@dataclass(frozen=True, slots=True)
class PhoneAdmission:
    """A phone may have its link."""

    principal: Principal
    settings: PhoneSettings
    device_key: str | None = field(default=None, repr=False)
    """Its own key, when it asked for one: shown this once."""


class Authentication:
    """Decides who is let in. One database read for whoever comes; a write only for what is new.

    Unknown id, wrong, expired or revoked key: the asker is told the same and the same work is done; the audit trail tells which it was.
    """

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        bus: Bus,
        credentials: Credentials,
        operators: Operators,
        attempts: Attempts,
        subscriber_ids: SubscriberIds,
        directory: DeviceDirectory,
        wall_ms: Callable[[], int],
        device_key_days: float = 0,
    ) -> None:
        self._database = database
        self._writer = writer
        self._bus = bus
        self._credentials = credentials
        self._operators = operators
        self._attempts = attempts
        self._subscriber_ids = subscriber_ids
        self._directory = directory
        self._wall_ms = wall_ms
        self._device_key_ms = round(MS_PER_DAY * device_key_days)

    def check_address(self, address: str) -> None:
        """Raise RateLimited when too many attempts from this address failed within the last minute."""
        self._attempts.check_address(address)

    def offended(self, client_id: str, address: str) -> None:
        """A link of this client, from this address, ended by what it said (`close_codes.OFFENCES`)."""
        self._attempts.offended(client_id, address)

    async def phone(self, key: str, description: DeviceDescription, address: str, wants_device_key: bool) -> PhoneAdmission:
        """A phone comes with an enrolment key, or with its own device key.

        An enrolment key binds to the device id at first connect, which is on disk before this returns. `wants_device_key` makes the
        device a key of its own; one that comes with such a key has it already and gets no other, until that has served
        `auth.device_key_days`. The first use of a newer device key revokes the others, and ends what the enrolment key is good for: it
        neither opens links of this device nor gets it keys, until its own are revoked. A device key stands alone: it outlives the
        enrolment key that brought its device in. A device that is deleted meanwhile comes anew.
        Raises BadCredentials, ClientIdReserved, RateLimited, DatabaseDown, DiskFull.
        """
        device_id = description.device_id
        self._attempts.check(device_id, address)
        digest, key_id = self._credentials.digest(key), stored_key_id(key)
        with self._directory.reading(device_id) as reading:
            login = await self._database.look_up(lambda connection: devices.find_phone(connection, device_id, key_id))
            self._attempts.check(device_id, address)  # others may have failed meanwhile: no guess counts beyond the limit

            credential = self._credentials.enrolment_key(digest)
            if is_same(digest, login.credential):
                credential = login.credential
            if credential is None:
                raise self._refuse("connect", device_id, address, "bad_credentials")
            refusal = _bars_phone(credential, login, device_id, self._wall_ms())
            if refusal is not None:
                raise self._refuse("connect", device_id, address, refusal)

            record = await self._record(credential, login, description, address)
            is_own_key = credential.kind is CredentialKind.DEVICE
            device_key = None
            if wants_device_key and (not is_own_key or self._is_old(credential)):
                device_key = await self._new_device_key(device_id)
            expires_at = credential.expires_at if is_own_key else None
            is_settled = not is_own_key or (login.older_device_keys == 0 and credential.used_at is not None)
            principal = Principal(LinkKind.PHONE, device_id, credential.id, has_older_keys=not is_settled, expires_at=expires_at)
            await self.retire_older_keys(principal)
        while reading.is_old:
            with self._directory.reading(device_id) as reading:
                device = await self._database.look_up(lambda connection: devices.find_device(connection, device_id))
                if device is None or device.credential_id != record.credential_id:  # it was deleted, and brought in again by whoever
                    return await self.phone(key, description, address, wants_device_key)
                record = await self._record(credential, replace(login, device=device), description, address)
        return PhoneAdmission(principal, self._directory.learn(record).settings, device_key)  # waits no more: the link is open next

    async def agent(self, client_id: str, token: str, address: str) -> Principal:
        """An agent CONNECTs with a token: of the configuration, a stored client key, the one that it registered with, or a signed one that
        was issued for it. TOKEN_REFRESH is the same, on a link that it has.

        Writes nothing. Raises BadCredentials, TokenExpired, ClientIdReserved, RateLimited, DatabaseDown.
        """
        self._attempts.check(client_id, address)
        digest, key_id = self._credentials.digest(token), stored_key_id(token)
        login = await self._database.look_up(lambda connection: devices.find_client(connection, client_id, key_id))
        self._attempts.check(client_id, address)

        credential_id = known_token(self._credentials, login, client_id, digest, self._wall_ms())
        signed = signed_token(self._operators, self._attempts, "connect", client_id, token, address)
        expires_at = end_of(credential_id, login.credential)
        if credential_id is None and signed is not None:
            credential_id, expires_at = signed.credential_id, signed.expires_at
        if credential_id is None:
            raise self._refuse("connect", client_id, address, "bad_credentials")
        if login.token_digest is None and is_guest_id(client_id):
            raise self._refuse("connect", client_id, address, devices.RESERVED)
        return Principal(
            LinkKind.AGENT,
            client_id,
            credential_id,
            registered=login.token_digest is not None,
            token_digest=digest,
            has_older_keys=has_older_keys(login, credential_id),
            expires_at=expires_at,
        )

    def is_token_of(self, principal: Principal, token: str) -> bool:
        """Whether this is the token that the client's link was opened with (C-11)."""
        return hmac.compare_digest(self._credentials.digest(token), principal.token_digest)

    async def retire_older_keys(self, principal: Principal) -> None:
        """Whoever came with a newer key of its own needs the others no more: they are revoked, their links end (W-31).

        Called once the link speaks for the client, so that it is not the one that ends. A database that is down leaves it to the next time.
        """
        if not principal.has_older_keys:
            return
        now = self._wall_ms()
        try:
            gone = await self._writer.call(lambda connection: stored_keys.settle_keys(connection, principal.credential_id, now))
        except (DatabaseDown, DiskFull):
            log.warning("older keys still stand", client_id=principal.client_id, credential_id=principal.credential_id)
            return
        for credential_id in gone:
            log.info("key replaced by another one", client_id=principal.client_id, credential_id=credential_id)
            self._bus.publish(CredentialRevoked(credential_id))

    async def _record(self, credential: Credential, login: PhoneLogin, description: DeviceDescription, address: str) -> DeviceRecord:
        """The device as it is now: enrolled if it is new, its description refreshed if it changed."""
        device_id, now = description.device_id, self._wall_ms()
        known = login.device or devices.new_device(device_id, PHONE, credential.id)
        record = devices.described(known, description, self._subscriber_ids.redact_data(description.info) if description.info else None)
        # With a key of its own it stays where its enrolment key put it: else it could go from there into any other group.
        if (group := credential.device_group or login.bound_group) is not None:
            record = replace(record, device_group=group)
        if login.device is None:
            refusal = await self._writer.call(lambda connection: devices.enrol(connection, record, credential, now))
            if refusal is not None:
                raise self._refuse("enrol", device_id, address, refusal)
            self._attempts.accepted("enrol", device_id, address)
            log.info("device enrolled", device_id=device_id, credential_id=credential.id)
        elif not _same_description(record, known):
            self._writer.put([devices.description_row(record, now)])
        return record

    async def _new_device_key(self, device_id: str) -> str:
        key, credential = self._credentials.draft(CredentialKind.DEVICE, client_id=device_id)
        await self._writer.call(lambda connection: stored_keys.keep_device_key(connection, credential))
        log.info("device key issued", device_id=device_id, credential_id=key.id)
        return key.text

    def _is_old(self, credential: Credential) -> bool:
        """Whether a device key has served as long as one should."""
        return 0 < self._device_key_ms <= self._wall_ms() - credential.created_at

    def _refuse(self, action: str, client_id: str, address: str, outcome: str) -> GatewayError:
        self._attempts.failed(action, client_id, address, outcome)
        return ClientIdReserved() if outcome == devices.RESERVED else BadCredentials()


def known_token(credentials: Credentials, login: ClientLogin, client_id: str, digest: bytes, now_ms: int) -> str | None:
    """The id of what vouches for a client that shows a token of this digest; None when nothing does. The same work in every case."""
    configured = credentials.client_token(client_id)
    is_configured = is_same(digest, configured)
    is_stored = is_same(digest, login.credential)
    is_registered = is_record_token(login, digest)
    if is_configured and configured is not None:
        return configured.id
    stored = login.credential
    if is_stored and stored is not None and stored.kind is CredentialKind.CLIENT:
        if stored.client_id == client_id and not stored.is_worthless(now_ms):
            return stored.id
        return None
    if is_registered and holder_lives(credentials, login, client_id, now_ms):
        return login.credential_id or f"registered:{client_id}"
    return None


def signed_token(operators: Operators, attempts: Attempts, action: str, client_id: str, token: str, address: str) -> Operator | None:
    """Who a signed token of this very client is; None when this is none. Raises TokenExpired, which is no guess and counts as none."""
    try:
        return operators.vouches_for(token, client_id)
    except TokenExpired:
        attempts.refused(action, client_id, address, "expired")
        raise


def end_of(credential_id: str | None, stored: Credential | None) -> int | None:
    """When what vouches for a client ends by itself: the key of this id, if it is the stored one, and not an enrolment key."""
    if stored is None or stored.id != credential_id or stored.kind is CredentialKind.ENROLMENT:
        return None
    return stored.expires_at


def has_older_keys(login: ClientLogin, credential_id: str | None) -> bool:
    """Whether the client comes with a stored key of its own, and older ones still stand."""
    stored = login.credential
    return login.older_keys > 0 and stored is not None and stored.id == credential_id and stored.kind is CredentialKind.CLIENT


def is_record_token(login: ClientLogin, digest: bytes) -> bool:
    """Whether the client registered with the token of this digest; the same work when it never did."""
    return is_same(digest, Credential("", CredentialKind.CLIENT, login.token_digest or NO_DIGEST)) and login.token_digest is not None


def holder_lives(credentials: Credentials, login: ClientLogin, client_id: str, now_ms: int) -> bool:
    """Whether the key behind a client's record still stands. A token that was no key (open registration) stands by itself.

    The same work whether there is a record or not, and whatever stands behind it.
    """
    digest = login.token_digest or NO_DIGEST
    is_enrolment_key = credentials.enrolment_key(digest) is not None
    is_client_token = is_same(digest, credentials.client_token(client_id))
    if login.credential_id is None:
        return True
    if login.has_used_key and (is_enrolment_key or (login.holder is not None and login.holder.kind is CredentialKind.ENROLMENT)):
        return False
    if login.holder is not None:
        return not login.holder.is_worthless(now_ms)
    return is_enrolment_key or is_client_token


def _bars_phone(credential: Credential, login: PhoneLogin, device_id: str, now_ms: int) -> str | None:
    """Why a right key does not let this phone in; None when it does."""
    if credential.kind in (CredentialKind.CLIENT, CredentialKind.OPERATOR):
        return "wrong_kind"
    if credential.revoked_at is not None:
        return "revoked"
    if credential.kind is CredentialKind.DEVICE:
        if credential.client_id != device_id or login.device is None:
            return "other_device"
        return "expired" if credential.is_expired(now_ms) else None
    if login.device is None:
        return "expired" if credential.is_expired(now_ms) else None
    if login.has_used_key:
        return devices.HAS_OWN_KEY
    return None if login.device.credential_id == credential.id else "bound_elsewhere"


def _same_description(record: DeviceRecord, known: DeviceRecord) -> bool:
    if record == known:
        return True
    return replace(record, info=None) == replace(known, info=None) and _read(record.info) == _read(known.info)


def _read(info: str | None) -> Mapping[str, Any] | None:
    return json.loads(info) if info else None
