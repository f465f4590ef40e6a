"""Deadlines and bounds of one link: section [link]."""

import msgspec


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deadlines and bounds of one link (CONTRACT.md §9)."""

    ping_after_s: float = 20.0
    """Seconds of saying nothing after which we send a ping."""
    silence_max_s: float = 75.0
    """Seconds of hearing nothing after which a link is closed with 4000."""
    handler_deadline_s: float = 10.0
    """Seconds that one message may wait for the database."""
    message_seconds_max: float = 30.0
    """Seconds from the first to the last byte of one message."""
    fragments_max: int = 64
    """Fragments of one message."""
    close_s: float = 2.0
    """Seconds that a peer has to answer our close frame."""
    close_bytes_max: int = 262_144
    """Bytes that are read while we wait for that answer: what was under way. A peer that says more is not read any more."""
