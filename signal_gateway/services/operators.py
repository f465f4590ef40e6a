"""Tokens and operator keys: who may use the operator's API, and what vouches for a client by its time (W-29, W-30; CONTRACT.md §4).

operators = Operators(database, bus, credentials, attempts, metrics, secret, wall_ms)
operator = await operators.prove(bearer, address)
"""

import os
from base64 import b32encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.access import Operator, Role, Scope
from signal_gateway.domain.credential import CredentialKind
from signal_gateway.domain.errors import BadCredentials, DatabaseDown, DiskFull, NoToken, TokenExpired
from signal_gateway.domain.events import CredentialRevoked
from signal_gateway.domain.ids import is_client_id
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.attempts import Attempts
from signal_gateway.services.credentials import REVOCATION_POLL_S, TELL_AGAIN_S, Credentials, is_same, stored_key_id
from signal_gateway.services.tokens import BY_TOKEN, OF_FAMILY, Signer, family_of
from signal_gateway.storage import tokens
from signal_gateway.storage.database import Database
from signal_gateway.storage.records import AuditEntry, write_audit
from signal_gateway.storage.tokens import RevokedTokens

log = logger("auth")

WHO = "operator"
"""Under which name failed attempts are counted and written down: whom a wrong token names cannot be believed."""
KEY_PREFIX = "sgk_"
TOKEN_ID_BYTES = 12
REVOKED_KEPT_MS = 10 * 365 * 86_400_000
"""How long a revocation is kept when the end of its token is not known."""
TOKEN_LIFE_S_MAX = REVOKED_KEPT_MS // 1000


class Operators:
    """Proves operators, and issues, refreshes and revokes their tokens and those of clients.

    Who was proved is remembered, so that the next request costs a digest and a look-up. A revocation or the end of a key or token ends that
    at once where it is made, and within REVOCATION_POLL_S on the other nodes. `run` is one loop of the services' stage.
    """

    def __init__(
        self,
        database: Database,
        bus: Bus,
        credentials: Credentials,
        attempts: Attempts | None,
        metrics: Metrics,
        secret: str,
        wall_ms: Callable[[], int],
        proved_kept: int = 1000,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._database = database
        self._bus = bus
        self._credentials = credentials
        self._attempts = attempts
        self._signer = Signer(secret)
        self._wall_ms = wall_ms
        self._proved_kept = proved_kept
        self.random_bytes = random_bytes
        """Where the ids of tokens come from."""
        self._proved: OrderedDict[bytes, Operator] = OrderedDict()
        self._revoked = RevokedTokens()
        self._told_at_s: dict[str, float] = {}
        self._limits = metrics.limits
        metrics.gauge("operators_remembered", "Tokens and operator keys that were proved and are remembered.", lambda: len(self._proved))
        bus.subscribe(CredentialRevoked, self._hear_revoked)

    async def prove(self, bearer: str, address: str) -> Operator:
        """The operator who shows this token or key. Raises BadCredentials, RateLimited, DatabaseDown.

        Who fails too often is refused for a minute, by address, however many tries come at once. A token of ours whose time is over is no
        guess, and does not count.
        """
        mark = sha256(bearer.encode("utf-8", "surrogatepass")).digest()
        known = self._proved.get(mark)
        if known is not None and (known.expires_at is None or known.expires_at > self._wall_ms()):
            self._proved.move_to_end(mark)
            return known
        self._proved.pop(mark, None)
        self._check_address(address)
        operator = await self._by_key(bearer, address) if bearer.startswith(KEY_PREFIX) else self._by_token(bearer, address)
        self._proved[mark] = operator
        if len(self._proved) > self._proved_kept:
            self._limits.add("auth.operators_kept")
            self._proved.popitem(last=False)
        return operator

    def vouches_for(self, token: str, client_id: str) -> Operator | None:
        """Whose token this is, when it was issued for this very client and holds (CONTRACT.md §2); None for any other text.

        Waits for nothing and counts nothing. Raises TokenExpired for such a token after its time: who holds it may know.
        """
        if token.count(".") != 2:  # in form no signed token at all, as nearly all that clients bring
            return None
        try:
            holder = self._signer.read(token, self._wall_ms())
        except TokenExpired as expired:
            if expired.subject == client_id:
                raise
            return None
        except BadCredentials:
            return None
        is_for_it = holder.role is Role.DEVICE and holder.subject == client_id
        return holder if is_for_it and holder.credential_id.removeprefix(BY_TOKEN) not in self._revoked.until else None

    def is_revoked(self, token_id: str) -> bool:
        """Whether the token of this id was revoked."""
        return token_id in self._revoked.until

    async def issue(self, subject: str, role: Role, scope: Scope, expires_s: int, actor: str = "cli", family: str | None = None) -> str:
        """A new token, of a family or the first of its own. It is kept nowhere; the audit trail keeps its id.

        Raises ValueError, DatabaseDown, DiskFull.
        """
        if not 0 < expires_s <= TOKEN_LIFE_S_MAX:
            raise ValueError(f"a token is good for 1 second to {TOKEN_LIFE_S_MAX // 86400} days")
        if role is Role.DEVICE and not (is_client_id(subject) and scope.is_whole_fleet):
            raise ValueError("the token of a device names one client id, and no devices or groups")
        token_id = (
            b32encode(self.random_bytes(TOKEN_ID_BYTES)).decode().lower().rstrip("=")
        )  # letters and digits: none looks like an option
        if family is not None:
            token_id = f"{family}{OF_FAMILY}{token_id}"
        now = self._wall_ms()
        token = self._signer.sign(subject, role, scope, token_id, now // 1000, expires_s)
        entry = AuditEntry(now, actor, tokens.ISSUED, token_id, "ok", detail=f"{role.value} token for {subject}")
        await self._database.write(lambda connection: write_audit(connection, entry))
        log.info("token issued", token_id=token_id, subject=subject, role=role.value, actor=actor)
        return token

    async def refresh(self, operator: Operator, expires_s: int) -> str:
        """A newer token for the same operator; the one that asked stays good until its own end (C-18). Raises NoToken for a key.

        Both are of one family: who revokes either ends them both, or whoever stole one could refresh it for ever.
        """
        if not operator.credential_id.startswith(BY_TOKEN):
            raise NoToken
        family = operator.credential_id.removeprefix(BY_TOKEN)
        return await self.issue(operator.subject, operator.role, operator.scope, expires_s, operator.subject, family)

    async def revoke(self, token_id: str, actor: str = "cli") -> bool:
        """Make a token worthless, and all of its family; their links end. False when they were before. Raises DatabaseDown, DiskFull."""
        token_id = family_of(token_id)
        now = self._wall_ms()
        until = now + REVOKED_KEPT_MS
        revoked = await self._database.write(lambda connection: tokens.revoke(connection, token_id, "", until, actor, now))
        self._revoked = replace(self._revoked, until={**self._revoked.until, token_id: until})
        if revoked:
            log.info("token revoked", token_id=token_id, actor=actor)
            self._told_at_s[token_id] = trio.current_time()
            self._bus.publish(CredentialRevoked(f"{BY_TOKEN}{token_id}"))
        return revoked

    async def has_issued(self, token_id: str) -> bool:
        """Whether the audit trail tells of a token of this id; of those of rooms, and of old ones, it does not. Raises DatabaseDown."""
        return await self._database.read(lambda connection: tokens.was_issued(connection, family_of(token_id)))

    def token_id_of(self, token: str) -> str | None:
        """The id by which a token of ours is revoked, be it live or not; None for anything else."""
        try:
            return self._signer.id_of(token, self._wall_ms())
        except BadCredentials:
            return None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Know of every revoked token before anybody is proved, and of each that others revoke within REVOCATION_POLL_S.

        CredentialRevoked is published again for TELL_AGAIN_S, for a link may open while its token is revoked.
        """
        while not await self._look():  # noqa: ASYNC110 - a database that is down tells nobody when it is back
            await trio.sleep(REVOCATION_POLL_S)
        task_status.started()
        while True:
            await trio.sleep(REVOCATION_POLL_S)
            now_s, before = trio.current_time(), self._revoked.until.keys()
            await self._look()
            for token_id in self._revoked.until.keys() - before:
                self._told_at_s.setdefault(token_id, now_s)
            for token_id, told_at_s in list(self._told_at_s.items()):
                self._bus.publish(CredentialRevoked(f"{BY_TOKEN}{token_id}"))
                if now_s - told_at_s >= TELL_AGAIN_S:
                    del self._told_at_s[token_id]

    async def _look(self) -> bool:
        known = self._revoked
        try:
            found = await self._database.read(lambda connection: tokens.find_revoked(connection, known))
        except (DatabaseDown, DiskFull):
            log.warning("revoked tokens cannot be read", retry_after_s=REVOCATION_POLL_S)
            return False
        if self._revoked is known:  # else one was revoked here meanwhile, and may not be in what was read
            self._revoked = found
        return True

    def _by_token(self, token: str, address: str) -> Operator:
        try:
            operator = self._signer.read(token, self._wall_ms())
        except BadCredentials as error:
            if type(error) is BadCredentials:
                self._failed(address, "bad_token")
            raise
        if operator.credential_id.removeprefix(BY_TOKEN) in self._revoked.until:
            self._failed(address, "revoked")
            raise BadCredentials("Invalid token")
        return operator

    async def _by_key(self, key: str, address: str) -> Operator:
        digest = self._credentials.digest(key)
        found = await self._credentials.find(stored_key_id(key))
        self._check_address(address)  # others may have failed meanwhile: no guess counts beyond the limit
        if not is_same(digest, found) or found is None or found.kind is not CredentialKind.OPERATOR or found.role is None:
            self._failed(address, "bad_key")
            raise BadCredentials("Invalid key")
        if found.is_worthless(self._wall_ms()):
            self._failed(address, "revoked" if found.revoked_at is not None else "expired")
            raise BadCredentials("Invalid key")
        return Operator(found.label or f"key:{found.id}", found.role, found.scope, found.id, found.expires_at)

    def _check_address(self, address: str) -> None:
        if self._attempts is not None:
            self._attempts.check_address(address)

    def _failed(self, address: str, outcome: str) -> None:
        if self._attempts is not None:
            self._attempts.failed("operator", WHO, address, outcome)

    def _hear_revoked(self, event: CredentialRevoked) -> None:
        gone = [mark for mark, operator in self._proved.items() if operator.credential_id == event.credential_id]
        for mark in gone:
            del self._proved[mark]
