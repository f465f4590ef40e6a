"""Ports for servers that must be told theirs before they start, or that keep them when they start again."""

import random
import socket
from itertools import islice

BELOW_WHAT_CLIENTS_GET = range(20_000, 32_000)
"""The system gives whoever connects a port from 32768 on (Linux's `ip_local_port_range`): one of those may be gone the next moment."""


def free_ports(count: int) -> list[int]:
    """Ports of this machine that are free for TCP and UDP at the moment, all different."""
    free = (port for port in random.sample(BELOW_WHAT_CLIENTS_GET, len(BELOW_WHAT_CLIENTS_GET)) if _is_free(port))
    return list(islice(free, count))


def _is_free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as link:
                link.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
