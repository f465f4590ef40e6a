"""Peers that are gone without a word (H15): presence says offline, and online when they are back."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from signal_gateway.websocket.server_settings import ServerSettings
from signal_gateway.websocket.sockets import USER_TIMEOUT_MS, open_listeners, port_of
from tests.e2e.server import ROOT, Server, running
from tests.e2e.test_story import rows

PHONES = 1
LINKED = "signal_gateway_devices_linked"
MORE = "[link]\nping_after_s = 0.5\nsilence_max_s = 2\n"
OUR_END, THEIR_END = "10.119.15.1", "10.119.15.2"


@contextmanager
def cable() -> Generator[str]:
    """A network namespace at the other end of a cable: its name, which is that of our end, too."""
    name = f"sg{os.getpid()}"
    setup = f"""
        ip netns add {name}
        ip link add {name} type veth peer name far netns {name}
        ip addr add {OUR_END}/30 dev {name}
        ip link set {name} up
        ip -n {name} addr add {THEIR_END}/30 dev far
        ip -n {name} link set far up
    """
    try:
        for line in setup.strip().splitlines():
            subprocess.run(line.split(), check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)


@contextmanager
def phones_elsewhere(server: Server, *before: str) -> Generator[subprocess.Popen[bytes]]:
    """A process with a few phones, which come back whenever they lose their links."""
    command = [*before, sys.executable, "-m", "signal_gateway", "simulate", "--url", server.url, "--phones", str(PHONES), "--agents", "0"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.tool("namespace")
def test_when_the_cable_is_pulled_phones_are_offline_soon_and_online_when_it_is_back(tmp_path: Path):
    with cable() as name, running(tmp_path, more=MORE, server=f'host = "{OUR_END}"\ninsecure = true') as server:
        with phones_elsewhere(server, "ip", "netns", "exec", name):
            server.wait_for_metric(LINKED, PHONES)
            subprocess.run(["ip", "link", "set", name, "down"], check=True)
            server.wait_for_metric(LINKED, 0)
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
            server.wait_for_metric(LINKED, PHONES)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert rows(tmp_path, "select count(*) from connection_logs where close_code = 4000") == [(PHONES,)]


@pytest.mark.slow
def test_when_a_client_s_process_is_stopped_its_phones_are_offline_though_the_kernel_still_answers(tmp_path: Path):
    with running(tmp_path, more=MORE) as server:
        with phones_elsewhere(server) as process:
            server.wait_for_metric(LINKED, PHONES)
            process.send_signal(signal.SIGSTOP)
            server.wait_for_metric(LINKED, 0)
            process.send_signal(signal.SIGCONT)
            server.wait_for_metric(LINKED, PHONES)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert rows(tmp_path, "select count(*) from connection_logs where close_code = 4000") == [(PHONES,)]


async def test_what_a_peer_does_not_acknowledge_for_30_seconds_ends_its_connection():
    """The kernel's own timeout, on every accepted socket: it ends what we wrote to a peer that is gone, and were too busy to miss."""
    (listener,) = await open_listeners(ServerSettings(port=0), None)
    async with listener, await trio.open_tcp_stream("127.0.0.1", port_of([listener])):
        accepted = await listener.accept()
        assert isinstance(accepted, trio.SocketStream)
        async with accepted:
            timeout = accepted.socket.getsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_USER_TIMEOUT)
    assert timeout == USER_TIMEOUT_MS == 30_000
