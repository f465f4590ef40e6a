"""Client records of agents: REGISTER and UNREGISTER (CONTRACT.md §2, C-09, C-10, S-09 to S-19)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from signal_gateway.bus.local import Bus
from signal_gateway.domain.access import Operator
from signal_gateway.domain.credential import Credential, CredentialKind
from signal_gateway.domain.errors import BadCredentials, ClientIdReserved, ClientIdTaken, ClientNotFound, GatewayError, TokenExpired
from signal_gateway.domain.events import ClientUnregistered
from signal_gateway.domain.principal import LinkKind, Principal
from signal_gateway.observe.logs import logger
from signal_gateway.services.attempts import Attempts
from signal_gateway.services.authentication import end_of, has_older_keys, holder_lives, is_record_token, known_token, signed_token
from signal_gateway.services.credentials import Credentials, is_same, stored_key_id
from signal_gateway.services.guests import Guests
from signal_gateway.services.operators import Operators
from signal_gateway.services.tokens import BY_TOKEN
from signal_gateway.storage import devices
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database
from signal_gateway.storage.devices import ClientLogin, ClientRecord, Vouch

log = logger("auth")

TAKEN = "client_id_taken"
_TOLD: Mapping[str, type[ClientIdTaken | ClientIdReserved]] = {
    TAKEN: ClientIdTaken,
    "bound_elsewhere": ClientIdTaken,
    devices.RESERVED: ClientIdReserved,
}
"""Refusals of a right token: the id is another one's, or nobody's who comes by a token of its own."""


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """What REGISTER asks (S-10). Its fields are checked already."""

    client_id: str
    token: str = field(repr=False)
    version: str
    capabilities: Sequence[str] = ()
    metadata: Mapping[str, Any] | None = None
    room_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Claim:
    """A token that may register: the key that it is, None when it is none of ours, and by what right."""

    credential_id: str | None
    vouch: Vouch
    expires_at: int | None = None


class Registration:
    """Keeps one record per client. What a token may do is decided on one read, and again in the transaction that writes."""

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        bus: Bus,
        credentials: Credentials,
        operators: Operators,
        attempts: Attempts,
        guests: Guests,
        registration: Literal["open", "enrolment", "closed"],
        wall_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._writer = writer
        self._bus = bus
        self._credentials = credentials
        self._operators = operators
        self._attempts = attempts
        self._guests = guests
        self._registration = registration
        self._wall_ms = wall_ms

    async def register(self, request: RegisterRequest, address: str) -> Principal:
        """Make or update the client's record; it is on disk before this returns. The same token gives the same record again.

        A record whose key is revoked, expired or gone from the configuration yields to a token issued for the very client, and to
        nobody else; one that still stands yields to a client key that was made for it since.
        Raises BadCredentials, TokenExpired, ClientIdTaken, ClientIdReserved, RateLimited, DatabaseDown, DiskFull.
        """
        client_id = request.client_id
        self._attempts.check(client_id, address)
        digest = self._credentials.digest(request.token)
        if (guest := self._guest(client_id, request.token, address)) is not None:
            await self._check_nobody_has(client_id, address)
            return replace(guest, token_digest=digest)
        login = await self._login(client_id, request.token)
        self._attempts.check(client_id, address)

        signed = signed_token(self._operators, self._attempts, "register", client_id, request.token, address)
        claim = self._claim(login, client_id, digest, signed)
        if claim is None:
            raise self._refuse("register", client_id, address, "bad_credentials", BadCredentials())
        record = ClientRecord(
            client_id, digest, claim.credential_id, request.version, list(request.capabilities), request.metadata, request.room_id
        )
        now = self._wall_ms()
        refusal = await self._writer.call(lambda connection: devices.register(connection, record, claim.vouch, now))
        if refusal is not None:
            told = _TOLD.get(refusal)
            raise self._refuse("register", client_id, address, refusal, BadCredentials() if told is None else told())
        self._attempts.accepted("register", client_id, address)
        log.info("client registered", client_id=client_id, credential_id=claim.credential_id)
        credential_id = claim.credential_id or f"registered:{client_id}"
        return Principal(
            LinkKind.AGENT,
            client_id,
            credential_id,
            registered=True,
            token_digest=digest,
            has_older_keys=has_older_keys(login, credential_id),
            expires_at=claim.expires_at,
        )

    async def unregister(self, client_id: str, token: str, address: str) -> None:
        """Delete the client's record: the token is checked first, and must be the one that registered it (S-17, S-18); where that was a
        signed one, any that is signed for the client will do.

        Raises BadCredentials (an unknown id too), ClientNotFound (the token is right, and there is no record), RateLimited,
        DatabaseDown, DiskFull.
        """
        self._attempts.check(client_id, address)
        digest = self._credentials.digest(token)
        login = await self._login(client_id, token)
        self._attempts.check(client_id, address)

        now = self._wall_ms()
        signed = signed_token(self._operators, self._attempts, "unregister", client_id, token, address)
        is_known = known_token(self._credentials, login, client_id, digest, now) is not None or signed is not None
        is_holder = is_record_token(login, digest) and holder_lives(self._credentials, login, client_id, now)
        if signed is not None and login.token_digest is not None and (login.credential_id or "").startswith(BY_TOKEN):
            is_holder, digest = True, login.token_digest
        if not is_known or (login.token_digest is not None and not is_holder):
            raise self._refuse("unregister", client_id, address, "bad_credentials", BadCredentials())
        gone = is_holder and await self._writer.call(lambda connection: devices.unregister(connection, client_id, digest))
        if not gone:
            self._attempts.refused("unregister", client_id, address, "client_not_found")
            raise ClientNotFound
        self._attempts.accepted("unregister", client_id, address)
        log.info("client unregistered", client_id=client_id)
        self._bus.publish(ClientUnregistered(client_id))

    def renew_guest(self, guest: Principal, token: str, address: str) -> Principal:
        """The same guest by a newer token of the same room (C-18). Raises BadCredentials, TokenExpired, RateLimited."""
        self._attempts.check(guest.client_id, address)
        renewed = self._guest(guest.client_id, token, address)
        if renewed is None or renewed.room_id != guest.room_id:
            raise self._refuse("token_refresh", guest.client_id, address, "bad_credentials", BadCredentials("Invalid token"))
        return replace(renewed, token_digest=self._credentials.digest(token))

    def _guest(self, client_id: str, token: str, address: str) -> Principal | None:
        """Who came by the link of a room: nothing is written of them. None for everybody else."""
        try:
            return self._guests.prove(client_id, token)
        except TokenExpired:  # no guess
            self._attempts.refused("register", client_id, address, "expired")
            raise
        except BadCredentials as error:
            raise self._refuse("register", client_id, address, "bad_room_token", error) from None

    async def _check_nobody_has(self, client_id: str, address: str) -> None:
        """Raise ClientIdTaken for an id that a device or a client's record has, from before such ids were for guests alone."""
        is_known = await self._database.look_up(lambda connection: devices.is_known(connection, client_id))
        self._attempts.check(client_id, address)
        if is_known:
            raise self._refuse("register", client_id, address, TAKEN, ClientIdTaken())

    async def _login(self, client_id: str, token: str) -> ClientLogin:
        key_id = stored_key_id(token)
        return await self._database.look_up(lambda connection: devices.find_client(connection, client_id, key_id))

    def _claim(self, login: ClientLogin, client_id: str, digest: bytes, signed: Operator | None) -> _Claim | None:
        """By what right a token of this digest registers this client; None when it has none. The same work for every token."""
        now = self._wall_ms()
        lives = holder_lives(self._credentials, login, client_id, now)
        is_record = is_record_token(login, digest)
        configured = self._credentials.client_token(client_id)
        is_configured = is_same(digest, configured)
        enrolment = self._credentials.enrolment_key(digest)
        stored = login.credential if is_same(digest, login.credential) else None
        if signed is not None:
            return _Claim(signed.credential_id, Vouch(issued=True, may_replace=not lives), signed.expires_at)
        if is_record:
            return _Claim(login.credential_id, Vouch(), end_of(login.credential_id, stored)) if lives else None
        if is_configured and configured is not None:
            return _Claim(configured.id, Vouch(issued=True, may_replace=not lives))
        if stored is not None:
            is_newer = login.registered_at is not None and stored.created_at > login.registered_at
            return self._stored_claim(stored, client_id, lives, is_newer, now)
        if enrolment is not None:
            return self._enrolment_claim(enrolment)
        return _Claim(None, Vouch()) if self._registration == "open" else None

    def _stored_claim(self, stored: Credential, client_id: str, lives: bool, is_newer: bool, now: int) -> _Claim | None:
        if stored.is_worthless(now) or stored.kind in (CredentialKind.DEVICE, CredentialKind.OPERATOR):
            return None
        if stored.kind is CredentialKind.ENROLMENT:
            return self._enrolment_claim(stored)
        if stored.client_id != client_id:
            return None
        return _Claim(stored.id, Vouch(issued=True, may_replace=not lives or is_newer), stored.expires_at)

    def _enrolment_claim(self, enrolment: Credential) -> _Claim | None:
        return None if self._registration == "closed" else _Claim(enrolment.id, Vouch(enrolled_by=enrolment))

    def _refuse(self, action: str, client_id: str, address: str, outcome: str, error: GatewayError) -> GatewayError:
        self._attempts.failed(action, client_id, address, outcome)
        return error
