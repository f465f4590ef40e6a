"""The certificate of both doors, which can be exchanged while they are open."""

import ssl
from pathlib import Path

from signal_gateway.websocket.server_settings import ServerSettings


class Certificate:
    """TLS 1.2 or newer with the configured certificate. Raises OSError or ssl.SSLError when it cannot be read.

    certificate = Certificate(settings)
    stream = TlsStream(socket, certificate.context())
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._context = _read(settings)

    def context(self) -> ssl.SSLContext:
        """For the next connection; asked anew for each."""
        return self._context

    def read_again(self) -> None:
        """New connections get what the files hold now, open ones keep theirs (SIGHUP). Raises as above: then nothing has changed.

        A context of its own is made each time. OpenSSL exchanges certificate and key one after the other, so one that is in use would be
        left with the two of them apart, and no handshake would succeed, where the new key is missing, broken or not written yet.
        """
        self._context = _read(self._settings)


def _read(settings: ServerSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(Path(settings.tls_cert_path), Path(settings.tls_key_path))
    return context
