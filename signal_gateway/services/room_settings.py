"""Section `[rooms]`: how many rooms there may be, who sits in them, and how long."""

from typing import Literal

import msgspec

from signal_gateway.domain.room import RoomRules


class RoomsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[rooms]`. Times in seconds."""

    max: int = 10_000
    """Rooms open at once; one more is refused with 503."""
    per_client_max: int = 1
    """Rooms that one client may sit in at once (C-12)."""
    max_receivers: int = 50
    """Receivers in one room, beside its sender."""
    departure_grace_s: float = 20.0
    """For which a lost link keeps its seat, and a room whose sender has left waits for another one."""
    restart_grace_s: float = 60.0
    """For which seats are kept after the server has started again."""
    empty_s: float = 300.0
    """For which a room that an operator made waits for its first member."""
    life_s: float = 86_400.0
    """The longest that a room may last."""
    sender_leaves: Literal["close", "promote", "wait"] = "wait"
    """When the sender leaves: the room ends; its oldest receiver with a link sends; or it waits `departure_grace_s` for another sender."""
    signals_held_max: int = 200
    """Signals kept for one member: candidates that overtook their description, and what comes while its link is lost. And so many of a
    sender's candidates for all who are still to come, the newest ones."""
    early_s: float = 5.0
    """For which candidates that overtook their description wait for it; then they are passed on without it."""
    partings_kept: int = 10_000
    """Clients whose link was lost when their room ended or they were taken out, and who are told when they come back within the grace."""
    archive_write_s: float = 0.25
    """How often what has changed is given to the archive. A crash may lose that much of it."""
    guest_token_s: int = 86_400
    """How long the link of a room lets guests in."""

    page_rooms_per_min: float = 30.0
    """Rooms that the page `/call` makes by itself where there are demo credentials."""

    def __post_init__(self) -> None:
        if min(self.max, self.per_client_max, self.max_receivers, self.guest_token_s) < 1:
            raise ValueError("max, per_client_max, max_receivers and guest_token_s must be above 0")
        if min(self.signals_held_max, self.partings_kept) < 0:
            raise ValueError("signals_held_max and partings_kept must not be below 0")
        if min(self.departure_grace_s, self.restart_grace_s, self.early_s) < 0:
            raise ValueError("departure_grace_s, restart_grace_s and early_s must not be below 0")
        if min(self.empty_s, self.life_s, self.archive_write_s) <= 0:
            raise ValueError("empty_s, life_s and archive_write_s must be above 0")

    def rules(self) -> RoomRules:
        """What holds for every room."""
        return RoomRules(
            receivers_max=self.max_receivers,
            grace_s=self.departure_grace_s,
            empty_s=self.empty_s,
            life_s=self.life_s,
            sender_leaves=self.sender_leaves,
            signals_held_max=self.signals_held_max,
        )
