"""Who asks, and whether they may: `Authorization: Bearer` with a token or an operator key, a rate, and a role (W-29, W-33; H05, H31).

`Guard` stands before all routes: who does not prove who they are is refused before a byte of their body is read. `Needs` stands at each
route and says which role it takes; without a guard before it, it lets nobody in.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Annotated, Any

import trio
from fastapi import Request, Security
from fastapi.openapi.models import HTTPBearer as BearerModel
from fastapi.security.base import SecurityBase

from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.api.problems import refusal
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.errors import BadCredentials, Forbidden, GatewayError, RateLimited
from signal_gateway.domain.proxies import TrustedProxies
from signal_gateway.domain.rate_limit import Rate, TokenBucket
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.operators import Operators

GUARDED = "/api/"
OPERATOR = "signal_gateway.operator"
"""Under which name a request's scope has its operator."""
PROOF = "signal_gateway.proof"
"""And under which what proves them once more."""
SCHEME = "bearer "
BEARER_CHARS_MAX = 8192
NO_CREDENTIALS = "Send the header Authorization: Bearer with a token or an operator key"
PREFLIGHT = "OPTIONS"
"""A browser asks so, without credentials, what a script may do (CORS): no route of ours answers it."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Rates:
    """One token bucket for each operator, in a table that is bounded."""

    def __init__(self, settings: HttpSettings, metrics: Metrics) -> None:
        self._rate = Rate(settings.requests_per_s, settings.requests_burst)
        self._kept = settings.operators_counted
        self._limits = metrics.limits
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, operator: Operator) -> None:
        """Count one request. Raises RateLimited."""
        now_s, who = trio.current_time(), operator.credential_id
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = TokenBucket(self._rate, now_s)
            if len(self._buckets) > self._kept:
                self._limits.add("http.operators_counted")
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(who)
        wait_s = bucket.take(now_s)
        if wait_s > 0:
            self._limits.add("http.requests_per_s")
            raise RateLimited("request", wait_s)


class Guard:
    """Proves the operator of every request under `/api/`, and counts it against their rate."""

    def __init__(self, app: App, operators: Operators, proxies: TrustedProxies, rates: Rates) -> None:
        self._app = app
        self._operators = operators
        self._proxies = proxies
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["path"].startswith(GUARDED) and scope["method"] != PREFLIGHT:
            try:
                proof = partial(self._operators.prove, *self._shown(scope))
                operator = await proof()
                self._rates.take(operator)
            except GatewayError as error:
                await refusal(error)(scope, receive, send)  # type: ignore[arg-type]
                return
            scope[OPERATOR], scope[PROOF] = operator, proof
        await self._app(scope, receive, send)

    def _shown(self, scope: Scope) -> tuple[str, str]:
        """What the asker shows, and the address that a failure counts against. Raises BadCredentials when nothing is shown."""
        given = forwarded_for = ""
        for name, value in scope["headers"]:
            if name == b"authorization":
                given = value.decode("latin-1")
            elif name == b"x-forwarded-for":
                forwarded_for = value.decode("latin-1")
        if given[: len(SCHEME)].lower() != SCHEME or len(given) > BEARER_CHARS_MAX:
            raise BadCredentials(NO_CREDENTIALS)
        peer = scope["client"][0] if scope.get("client") else ""
        return given[len(SCHEME) :].strip(), self._proxies.client_address(peer, forwarded_for)


def proof_of(request: Request) -> Callable[[], Awaitable[Operator]]:
    """For what takes long: whether who asked may still ask. It raises what the guard does."""
    proof: Callable[[], Awaitable[Operator]] = request.scope[PROOF]
    return proof


class Needs(SecurityBase):
    """A dependency of a route: an operator of at least this role. In the OpenAPI document all of them are the scheme `bearer`."""

    def __init__(self, role: Role) -> None:
        self.model = BearerModel(description="A token of `signal-gateway token issue`, or an operator key of `signal-gateway key create`.")
        self.scheme_name = "bearer"
        self._role = role

    async def __call__(self, request: Request) -> Operator:
        """Who asks. Raises Forbidden."""
        operator: Operator | None = request.scope.get(OPERATOR)
        if operator is None:
            raise BadCredentials(NO_CREDENTIALS)
        if not operator.role.may_as(self._role):
            raise Forbidden(f"This needs the role {self._role.value}; this token has {operator.role.value}", "role")
        return operator


Holder = Annotated[Operator, Security(Needs(Role.DEVICE))]
"""What a route takes that is for whoever holds a token, a client of `/ws` too."""
Viewer = Annotated[Operator, Security(Needs(Role.VIEWER))]
"""What a route takes that reads."""
Commander = Annotated[Operator, Security(Needs(Role.OPERATOR))]
"""What a route takes that makes devices do something."""
Admin = Annotated[Operator, Security(Needs(Role.ADMIN))]
"""What a route takes that gives or takes access."""


def whole_fleet_only(operator: Operator, what: str) -> None:
    """Raise Forbidden unless the operator's scope is the whole fleet."""
    if not operator.scope.is_whole_fleet:
        raise Forbidden(f"{what} needs a scope of the whole fleet", "out_of_scope")
