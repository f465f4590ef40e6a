"""TLS on this machine alone: a certificate of localhost that everybody knows, for tests, simulated worlds and benches."""

import ssl
from pathlib import Path

CERTIFICATE_PATH = Path(__file__).with_name("localhost.pem")
"""Certificate and key in one PEM file."""


def server_context() -> ssl.SSLContext:
    """What a server on localhost speaks TLS by: 1.2 or newer, as the gateway's own."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(CERTIFICATE_PATH)
    return context


def client_context() -> ssl.SSLContext:
    """What a client believes that server by, and nobody else."""
    return ssl.create_default_context(cafile=str(CERTIFICATE_PATH))
