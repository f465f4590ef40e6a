"""What all links of one gateway share: the services that their messages end in, and the limits they keep."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.authentication import Authentication
from signal_gateway.services.dispatcher import Dispatcher
from signal_gateway.services.limits import Limits
from signal_gateway.services.placements import Placements
from signal_gateway.services.presence import Presence
from signal_gateway.services.registration import Registration
from signal_gateway.services.reports import Reports
from signal_gateway.services.room_media import RoomMedia
from signal_gateway.services.rooms import Rooms
from signal_gateway.services.subscriber_ids import SubscriberIds
from signal_gateway.services.turn import IceServers
from signal_gateway.websocket.admission import Admission, SecuritySettings
from signal_gateway.websocket.connection import Bounds
from signal_gateway.websocket.hub import Hub
from signal_gateway.websocket.lane import Lane
from signal_gateway.websocket.link_settings import LinkSettings
from signal_gateway.websocket.server_settings import ServerSettings, SessionSettings
from signal_gateway.websocket.turn import Turn


@dataclass(frozen=True, kw_only=True)
class Door:
    """Handed to every link; made once, in `app.py`."""

    server: ServerSettings
    session: SessionSettings
    security: SecuritySettings
    link: LinkSettings
    bounds: Bounds
    """Of every connection."""
    auth_deadline_s: float
    """Seconds from the upgrade to CONNECT or REGISTER."""
    token_warning_s: float
    """Seconds before the end of its token that a link is told of it."""
    metrics: Metrics
    hub: Hub
    turn: Turn
    """In which links are heard; it writes what they have to say at its end."""
    lane: Lane | None
    """Reads all sockets; None = a task per link does."""
    admission: Admission
    limits: Limits
    authentication: Authentication
    registration: Registration
    presence: Presence
    placements: Placements
    reports: Reports
    dispatcher: Dispatcher
    subscriber_ids: SubscriberIds
    rooms: Rooms
    room_media: RoomMedia | None
    """Where a media backend may stand behind rooms; None = their members talk to each other directly."""
    ice_servers: IceServers
    """What members of rooms that do so are told of STUN and TURN servers."""
    wait_for_room: Callable[[], Awaitable[None]]
    """Returns when the writer keeps up. While it does not, only heartbeats, pings and closes are heard (DESIGN.md §4)."""
    wall_ms: Callable[[], int]
    new_id: Callable[[], str]
    """A fresh id, for sessions."""
    new_uuid_bytes: Callable[[], bytes]
    """A fresh version 4 UUID in its bytes, for frames that the server starts."""
