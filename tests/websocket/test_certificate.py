"""The certificate of both doors: exchanged whole while they are open, or not at all."""

import shutil
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.api.server import ApiServer
from signal_gateway.app import reload
from signal_gateway.config import Config
from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket.certificate import Certificate
from signal_gateway.websocket.server_settings import ServerSettings
from signal_gateway.websocket.sockets import open_listeners, port_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")]

ANYBODY = ssl.create_default_context()
ANYBODY.check_hostname, ANYBODY.verify_mode = False, ssl.CERT_NONE


class Files:
    """A certificate and its key where the configuration says, and others that may take their place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.config = Config(server=ServerSettings(tls_enabled=True, tls_cert_path=str(self.chain), tls_key_path=str(self.key)))
        self.first, self.second = self.made("first"), self.made("second")
        self.put(*self.first)

    def made(self, name: str) -> tuple[str, str]:
        asked = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}"
        subprocess.run(["openssl", *asked.split()], cwd=self.folder, check=True, capture_output=True)
        return (self.folder / name).read_text(), (self.folder / f"{name}.key").read_text()

    def put(self, chain: str, key: str) -> None:
        self.chain.write_text(chain)
        self.key.write_text(key)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@asynccontextmanager
async def open_doors(certificate: Certificate) -> AsyncGenerator[tuple[int, int]]:
    """The ports of links and of the operator's API."""

    async def shake(stream: Any) -> None:
        await stream.receive_some()
        await stream.aclose()

    api = ApiServer(cast(Any, None), HttpSettings(port=0), Metrics(), certificate.context)
    async with trio.open_nursery() as nursery:
        http_port = await nursery.start(api.run)
        listeners = await open_listeners(ServerSettings(port=0), certificate.context)
        nursery.start_soon(trio.serve_listeners, shake, list(listeners))
        yield port_of(listeners), http_port
        nursery.cancel_scope.cancel()


async def shown(port: int) -> str:
    """The certificate that a new connection gets."""
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=ANYBODY, https_compatible=True)
    async with stream:
        await stream.do_handshake()
        return ssl.DER_cert_to_PEM_cert(cast(Any, stream).getpeercert(True))


async def test_new_connections_at_both_doors_get_the_new_certificate(files: Files):
    certificate = Certificate(files.config.server)
    async with open_doors(certificate) as ports:
        assert [await shown(port) for port in ports] == [files.first[0]] * 2
        files.put(*files.second)
        assert [await shown(port) for port in ports] == [files.first[0]] * 2
        reload(files.config, certificate)
        assert [await shown(port) for port in ports] == [files.second[0]] * 2


@pytest.mark.parametrize("key", ["of before", "broken", "empty", "missing"])
async def test_what_cannot_be_read_whole_leaves_both_doors_as_they_were(files: Files, key: str):
    """Whoever renews a certificate writes the chain first and its key behind it; asked between the two, the doors stay open."""
    certificate = Certificate(files.config.server)
    files.put(files.second[0], {"broken": files.second[1][:100], "empty": ""}.get(key, files.first[1]))
    if key == "missing":
        files.key.unlink()
    async with open_doors(certificate) as ports:
        with capture_logs() as lines:
            reload(files.config, certificate)
        assert [line["event"] for line in lines] == ["reload failed: what held before holds on"]
        assert [await shown(port) for port in ports] == [files.first[0]] * 2

        files.put(*files.second)
        reload(files.config, certificate)
        assert [await shown(port) for port in ports] == [files.second[0]] * 2


async def test_a_certificate_is_exchanged_though_the_configuration_cannot_be_read(files: Files, tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_text("[logging]\nlevel = 7\n")
    certificate = Certificate(files.config.server)
    files.put(*files.second)
    async with open_doors(certificate) as (port, _):
        with capture_logs() as lines:
            reload(msgspec.structs.replace(files.config, path=path), certificate)
        assert [line["event"] for line in lines] == ["reload failed: what held before holds on"]
        assert await shown(port) == files.second[0]
