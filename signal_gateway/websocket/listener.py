"""Where links begin: accept, read the request, refuse or upgrade. What goes wrong with one connection stays with it (H33)."""

from collections.abc import Sequence
from contextlib import suppress

import trio

from signal_gateway.domain.errors import DuplicateLink, GatewayError
from signal_gateway.domain.principal import LinkKind
from signal_gateway.domain.proxies import TrustedProxies
from signal_gateway.observe.logs import logger
from signal_gateway.websocket.admission import Ticket, retry_after, too_many
from signal_gateway.websocket.agents import AGENT_EARS, MEDIA_AGENT_EARS, greet_agent
from signal_gateway.websocket.door import Door
from signal_gateway.websocket.handshake import check_origin, check_upgrade, describe_phone, kind_of, phone_key, plain_answer
from signal_gateway.websocket.link import Link
from signal_gateway.websocket.phones import PHONE_EARS, greet_phone
from signal_gateway.websocket.request_head import GoneAway, HandshakeSettings, Refused, Request, read_request
from signal_gateway.websocket.sockets import has_hung_up, is_closed
from signal_gateway.websocket.tls import unwrapped

LINGER_S = 1.0
"""Seconds in which a refused peer may read its answer before the socket is closed under it."""

GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""How a peer that is gone looks from here: nobody's fault, and nothing to log."""

log = logger("websocket")


class Listener:
    """The door on one port. `serve` accepts until it is cancelled; the links live in the nursery that it is given."""

    def __init__(self, door: Door, handshake: HandshakeSettings, own_ports: frozenset[int], believes_any_origin: bool) -> None:
        self._door = door
        self._handshake = handshake
        self._own_ports = own_ports
        self._believes_any_origin = believes_any_origin
        self._arriving: set[str] = set()  # phones that were let in and whose upgrade is under way
        self._proxies = TrustedProxies(door.server.trusted_proxies)
        self._agent_ears = AGENT_EARS if door.room_media is None else MEDIA_AGENT_EARS
        self._connections = door.metrics.counter("connections_total", "Connections accepted.")
        self._refusals = door.metrics.refusals

    async def serve(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        links: trio.Nursery,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept on every listener until cancelled. Running out of file descriptors pauses it, and ends nothing (H16)."""
        task_status.started()
        await trio.serve_listeners(self.serve_connection, list(listeners), handler_nursery=links)

    async def serve_connection(self, transport: trio.abc.Stream) -> None:
        """One connection, from its first byte to its last. Raises nothing but Cancelled."""
        self._connections.add()
        scope = trio.CancelScope()
        try:
            with scope:
                await self._serve(transport, scope)
        except* GONE:
            self._refusals.add("connection_lost")
        except* Exception:
            self._door.metrics.errors.add("connection")
            log.exception("a connection failed")
        finally:
            if not is_closed(transport):
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(transport)

    async def _serve(self, transport: trio.abc.Stream, scope: trio.CancelScope) -> None:
        peer = peer_address(transport)
        ticket: Ticket | None = None
        is_head = False
        try:
            ticket = self._door.admission.enter(peer, scope.cancel, counts_by_address=not self._proxies.trusts(peer))
            request = await read_request(transport, self._handshake)
            is_head = request.method == "HEAD"
            await self._upgrade(transport, request, peer, ticket)
        except Refused as refused:
            if refused.status >= 400:
                self._refusals.add(refused.reason)
            await self._answer(transport, refused, is_head)
        except GoneAway:
            self._refusals.add("gone_before_request")
        finally:
            if ticket is not None:
                self._door.admission.leave(ticket)

    async def _upgrade(self, transport: trio.abc.Stream, request: Request, peer: str, ticket: Ticket) -> None:
        check_upgrade(request)
        door = self._door
        if door.hub.is_draining:
            raise too_many("draining", "the server restarts: come back soon")
        door.admission.check_connections()
        address = self._proxies.client_address(peer, request.headers.get("x-forwarded-for", ""))
        if address != peer:
            door.admission.move(ticket, address)
        check_origin(request, door.security.allowed_origins, self._own_ports, self._believes_any_origin)
        try:
            door.authentication.check_address(address)
            kind = kind_of(request)
            if kind is LinkKind.CONSOLE:
                raise Refused(501, "not_implemented", "dashboards are not served yet")
            if kind is LinkKind.PHONE:
                await self._serve_phone(transport, request, address, ticket)
            else:
                await Link(door, kind, self._agent_ears, transport, request, address, ticket).run(greet_agent)
        except GatewayError as error:
            raise refused_by(error) from error

    async def _serve_phone(self, transport: trio.abc.Stream, request: Request, address: str, ticket: Ticket) -> None:
        """A phone proves itself before its upgrade is answered: its refusals are plain HTTP (CONTRACT.md §1)."""
        door = self._door
        key = phone_key(request)
        if not key:
            challenge = {"WWW-Authenticate": "Bearer"}
            raise Refused(401, "bad_credentials", "an api_key is needed: header Authorization or query api_key", challenge)
        description, wants_device_key = describe_phone(request)
        admission = None
        with trio.move_on_after(door.link.handler_deadline_s):
            admission = await door.authentication.phone(key, description, address, wants_device_key)
        if admission is None:
            raise too_many("link.handler_deadline_s", "the server could not answer in time")
        if door.hub.is_draining:
            raise too_many("draining", "the server restarts: come back soon")
        if has_hung_up(transport):  # a request held up on its way, and given up: it must not take the place of the link that came after it
            raise GoneAway
        device_id = description.device_id
        if door.session.duplicate_policy == "reject_new" and (door.hub.link_of(device_id) is not None or device_id in self._arriving):
            raise DuplicateLink
        link = Link(door, LinkKind.PHONE, PHONE_EARS, transport, request, address, ticket)
        self._arriving.add(device_id)
        try:
            await link.run(greet_phone(admission, lambda: self._arriving.discard(device_id)))
        finally:
            if link.principal is None:
                self._arriving.discard(device_id)

    async def _answer(self, transport: trio.abc.Stream, refused: Refused, is_head: bool) -> None:
        """One plain answer; then the peer may hang up first, so that the answer is not lost to a reset."""
        with trio.move_on_after(LINGER_S):
            await transport.send_all(plain_answer(refused, is_head))
            if isinstance(transport, trio.abc.HalfCloseableStream):
                with suppress(trio.BrokenResourceError):  # it has hung up, with its answer
                    await transport.send_eof()
                    while await transport.receive_some(4096):
                        pass


def refused_by(error: GatewayError) -> Refused:
    """The plain HTTP answer that says what a service refused."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(max(1, round(error.retry_after_s)))}
    if error.status >= 503:
        headers |= retry_after()
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Refused(error.status, error.reason, error.message, headers)


def peer_address(transport: trio.abc.Stream) -> str:
    """The address at the other end of a TCP connection, with or without TLS; "" where there is none (memory streams)."""
    inner, _ = unwrapped(transport)
    if not isinstance(inner, trio.SocketStream):
        return ""
    try:
        return str(inner.socket.getpeername()[0])
    except OSError:  # gone already; the next read says so
        return ""
