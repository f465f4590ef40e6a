"""Where the door stands and how wide it is: sections [server] and [session] (S-43, S-49)."""

from typing import Literal

import msgspec


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listener of phones, agents and consoles."""

    host: str = "127.0.0.1"
    """Address to listen on. Beyond loopback the start is refused while demo credentials, plain ws:// or "*" origins are in use."""
    port: int = 8080
    """TCP port of `/ws`; 0 = any free one."""
    public_url: str = ""
    """Where phones find `/ws` from outside, `wss://gateway.example/ws`: it goes into QR codes. Empty: the host that was asked."""
    max_connections: int = 1000
    """Open connections in all; one more gets 503."""
    heartbeat_interval: int = 30
    """Seconds; told to agents in CONNECT_ACK."""
    tls_enabled: bool = False
    """Speak TLS (1.2 or newer) on this port."""
    tls_cert_path: str = ""
    """PEM file with the certificate chain."""
    tls_key_path: str = ""
    """PEM file with the private key."""
    pump: Literal["epoll", "task"] = "epoll"
    """Who reads the sockets: "epoll", one task for all of them, where the system has epoll; "task", one for each link."""
    read_buffer_size: int = 8192
    """Bytes read from a socket at once."""
    write_buffer_size: int = 8192
    """Seed 003; without effect: [outbox] bounds what waits for a peer."""
    max_message_size: int = 1_048_576
    """Bytes of one WebSocket message; more closes the link with 1009. A binary frame of ours has at most 65,556 (C-04)."""
    data_dir: str = "data"
    """Folder of database, secrets and logs; relative to the working directory."""
    drain_s: float = 8.0
    """Seconds over which links are closed with 1012 after SIGTERM."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For is believed, and behind which plain ws:// counts as secure: they speak TLS."""
    insecure: bool = False
    """Start in spite of demo credentials, short secrets, plain ws:// or "*" origins beyond loopback."""


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for a client's session."""

    session_timeout: int = 3600
    """Seed 003; without effect: a session lives as long as its link, whose silence [link] bounds."""
    cleanup_interval: int = 300
    """Seed 003; without effect: limits.forget_every_s and presence.sweep_s say how often memory is tidied."""
    max_sessions_per_client: int = 1
    """Seed 003; without effect: a client has one link, and duplicate_policy says which."""
    duplicate_policy: Literal["kick_old", "reject_new"] = "kick_old"
    """When a client comes twice: "kick_old" closes the older link with 4500, "reject_new" answers 409."""
