"""The whole: a real process, a foreign WebSocket client, real signals, a real disk."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from protocol.frame import FrameType, decode_frame, encode_frame
from protocol.payload import PayloadKind, read_json, write_json
from tests.e2e.server import Server, command, running
from tests.websocket.client_frames import binary
from tests.websocket.test_agents import SEED_HEARTBEAT, SEED_REGISTER_PAYLOAD
from tests.websocket.test_links import HEAD

pytestmark = pytest.mark.slow

UUID = bytes.fromhex("550E8400E29B41D4A716446655440000")
OUTBOX_LIMITS = ("messages_max", "bytes_max", "write_deadline_s")
PHONE = {"Queue-Name": "q1", "Device-Info": '{"device_id":"android-1","manufacturer":"Samsung"}'}


def phone(server: Server, key: str = "demo-enrolment-key", device_id: str = "android-1") -> ClientConnection:
    headers = {"Queue-Name": "q1", "Device-Info": json.dumps({"device_id": device_id})}
    return connect(f"{server.url}?api_key={key}", additional_headers=headers)


def ask(link: ClientConnection, frame_type: int, payload: Any) -> tuple[int, Any]:
    link.send(encode_frame(frame_type, UUID, PayloadKind.JSON, write_json(payload)))
    answer = link.recv(5)
    assert isinstance(answer, bytes)
    frame = decode_frame(answer)
    assert frame.uuid == UUID
    return frame.type, read_json(frame.payload)


def register(link: ClientConnection, client_id: str, token: str = "demo-enrolment-key") -> dict[str, Any]:
    payload = {"version": "1.0.0", "client_id": client_id, "auth_token": token}
    answer_type, answer = ask(link, FrameType.REGISTER, payload)
    assert answer_type == FrameType.REGISTER_ACK
    return answer


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "data" / "gateway.db") as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_a_phone_and_an_agent_live_on_one_server_and_everything_tells_the_same(tmp_path: Path):
    with running(tmp_path) as server:
        assert server.get("/health/ready")[0] == 200
        with phone(server) as link, connect(server.url) as agent:
            established = json.loads(link.recv(5))
            assert established["type"] == "connection_established"
            assert len(established["settings"]) == 19
            link.send(
                json.dumps(
                    {"type": "heartbeat", "data": {"battery_level": 85, "sim_cards": [{"slot_index": 0, "imei": "123456789012345"}]}}
                )
            )
            sms = {"phone_number": "+905551234567", "message": "canary text", "direction": "received"}
            link.send(json.dumps({"type": "sms_message", "request_id": "r1", "data": sms}))
            assert json.loads(link.recv(5)) == {"type": "ack", "request_id": "r1"}

            assert ask(agent, FrameType.CONNECT, {"client_id": "test_client_1", "auth_token": "test_token_1"})[1]["status"] == 200
            for byte_count in (1, 7, len(SEED_HEARTBEAT)):  # the seed's frame, corrected, in one message however it is cut into fragments
                agent.send(SEED_HEARTBEAT[start : start + byte_count] for start in range(0, len(SEED_HEARTBEAT), byte_count))
                answer = agent.recv(5)
                assert answer == SEED_HEARTBEAT[:1] + b"\x05" + SEED_HEARTBEAT[2:]
            agent.send(json.dumps({"type": "heartbeat", "request_id": "r2", "data": {"timestamp": 1}}))
            assert json.loads(agent.recv(5)) == {"type": "heartbeat_ack", "request_id": "r2", "data": {"timestamp": 1}}

            assert server.metric('signal_gateway_links{kind="phone"}') == 1
            assert server.metric('signal_gateway_links{kind="agent"}') == 1
            assert server.metric('signal_gateway_messages_total{direction="in",type="sms_message"}') == 1
            assert server.metric('signal_gateway_messages_total{direction="out",type="heartbeat_ack"}') == 4
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        opened = [line for line in server.log_lines() if line["event"] == "link opened"]
        assert {line["client_id"] for line in opened} == {"android-1", "test_client_1"}
    assert rows(tmp_path, "select device_id, type, json_extract(data, '$.message') from reports where type = 'sms_message'") == [
        ("android-1", "sms_message", "canary text")
    ]
    assert rows(tmp_path, "select battery_level, linked from device_status where device_id = 'android-1'") == [(85, 0)]
    assert "123456789012345" not in json.dumps(rows(tmp_path, "select sim_cards from device_status"))
    logged = rows(tmp_path, "select client_type, disconnected_at is not null from connection_logs order by client_type")
    assert logged == [("agent", 1), ("phone", 1)]


def test_the_seeds_register_frame_is_401_by_default_and_200_when_open(tmp_path: Path):
    frame = encode_frame(FrameType.REGISTER, UUID, PayloadKind.JSON, SEED_REGISTER_PAYLOAD)
    for registration, status in (("enrolment", 401), ("open", 200)):
        with running(tmp_path / registration, registration) as server, connect(server.url) as agent:
            agent.send(frame)
            answer = agent.recv(5)
            assert isinstance(answer, bytes)
            assert read_json(decode_frame(answer).payload)["status"] == status


def test_killed_at_any_moment_it_keeps_every_acknowledged_register(tmp_path: Path):
    acknowledged: list[str] = []
    for life in range(3):
        with running(tmp_path) as server:
            killer = threading.Timer(0.3 + 0.2 * life, server.process.kill)
            killer.start()
            try:
                for number in range(100_000):
                    with connect(server.url) as agent:
                        client_id = f"unit-{life}-{number}"
                        assert register(agent, client_id)["status"] == 200
                        acknowledged.append(client_id)
            except (WebSocketException, OSError, EOFError):
                pass
            killer.join()
            assert server.wait() == -signal.SIGKILL
    assert len(acknowledged) >= 8
    kept = {client_id for (client_id,) in rows(tmp_path, "select device_id from registrations")}
    assert set(acknowledged) <= kept
    assert rows(tmp_path, "pragma integrity_check") == [("ok",)]
    with running(tmp_path) as server, connect(server.url) as agent:
        answer_type, answer = ask(agent, FrameType.CONNECT, {"client_id": acknowledged[0], "auth_token": "demo-enrolment-key"})
        assert (answer_type, answer["status"]) == (FrameType.CONNECT_ACK, 200)


def test_sigterm_says_goodbye_to_every_link_and_readiness_tells_first(tmp_path: Path):
    with running(tmp_path, drain_s=2.0) as server, ExitStack() as stack:
        links = [stack.enter_context(phone(server, device_id=f"android-{number}")) for number in range(8)]
        for link in links:
            link.recv(5)
        server.signal(signal.SIGTERM)
        codes: list[int] = []
        for link in links[:4]:
            with pytest.raises(ConnectionClosed) as caught:
                link.recv(10)
            assert caught.value.rcvd is not None
            codes.append(caught.value.rcvd.code)
        status, body = server.get("/health/ready")
        assert (status, json.loads(body)["status"]) == (503, "draining")
        assert server.get("/health/live")[0] == 200
        with pytest.raises(OSError, match="refused"), phone(server):
            pass
        for link in links[4:]:
            with pytest.raises(ConnectionClosed) as caught:
                link.recv(10)
            assert caught.value.rcvd is not None
            codes.append(caught.value.rcvd.code)
        assert codes == [1012] * 8
        assert server.wait() == 0


def test_a_second_signal_ends_it_now(tmp_path: Path):
    with running(tmp_path, drain_s=600.0) as server, ExitStack() as stack:
        links = [stack.enter_context(phone(server, device_id=f"android-{number}")) for number in range(3)]
        for link in links:
            link.recv(5)
        server.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            links[0].recv(10)
        server.signal(signal.SIGTERM)
        assert server.wait(10) == 1


def test_a_key_that_the_command_line_revokes_ends_its_link_on_a_running_server(tmp_path: Path):
    with running(tmp_path) as server:
        created = command(tmp_path, "key", "create", "--kind", "enrolment", "--label", "site 7", "--config", "config.toml")
        assert created.returncode == 0, created.stderr
        key = created.stdout.splitlines()[-1]
        assert key.startswith("sgk_")
        with phone(server, key) as link:
            link.recv(5)
            revoked = command(tmp_path, "key", "revoke", key.split("_")[1], "--config", "config.toml")
            assert revoked.returncode == 0, revoked.stderr
            with pytest.raises(ConnectionClosed) as caught:
                link.recv(10)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 4501
        with pytest.raises(InvalidStatus) as refused, phone(server, key):
            pass
        assert refused.value.response.status_code == 401


def test_thirty_two_canary_secrets_are_nowhere_to_be_seen(tmp_path: Path):
    canaries = [f"canary-{number:02d}-{os.urandom(8).hex()}" for number in range(32)]
    seen: list[str] = []
    more = '[logging]\nlevel = "debug"\n[security]\nmax_failed_auth_per_ip_per_minute = 1000'
    with running(tmp_path, registration="open", more=more) as server:
        for number, canary in enumerate(canaries):
            match number % 4:
                case 0:
                    with pytest.raises(InvalidStatus) as refused, phone(server, canary, f"android-{number}"):
                        pass
                    seen.append(str(refused.value.response.body))
                case 1:
                    headers = {**PHONE, "Authorization": f"Bearer {canary}"}
                    with pytest.raises(InvalidStatus) as refused, connect(server.url, additional_headers=headers):
                        pass
                    seen.append(str(refused.value.response.body))
                case 2:
                    with connect(server.url) as agent:
                        _, answer = ask(agent, FrameType.CONNECT, {"client_id": f"unit-{number}", "auth_token": canary})
                        seen.append(str(answer))
                case _:
                    with connect(server.url) as agent:
                        seen.append(str(register(agent, f"unit-{number}", canary)))
                        agent.send(json.dumps({"type": "register", "data": {"auth_token": canary, "client_id": 7}}))
                        seen.append(str(agent.recv(5)))
        seen.append(server.get("/metrics")[1])
        seen.append(Path(f"/proc/{server.process.pid}/cmdline").read_text())
        seen.append(server.printed)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    seen.append((tmp_path / "stderr.txt").read_text())
    seen.extend(path.read_text() for path in (tmp_path / "data" / "logs").iterdir())
    database = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("gateway.db*"))
    everything = "\n".join(seen)
    assert "authentication refused" in everything
    assert [canary for canary in canaries if canary in everything or canary.encode() in database] == []


def test_a_simulated_fleet_drives_it_without_a_failure(tmp_path: Path):
    with running(tmp_path) as server:
        ran = command(tmp_path, "simulate", "--url", server.url, "--phones", "20", "--agents", "5", "--seconds", "4", "--rate", "5")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "most: 25" in ran.stdout
        assert server.metric('signal_gateway_messages_total{direction="in",type="sms_message"}') > 100
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert rows(tmp_path, "select count(*) > 100 from reports where type = 'sms_message'") == [(1,)]


def make_certificate(folder: Path, name: str) -> None:
    """A self-signed certificate for localhost whose subject is `name`."""
    asked = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name}"
    files = "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *asked.split(), *files.split()], cwd=folder, check=True, capture_output=True)


def subject(server: Server) -> str:
    """The name on the certificate that the server shows."""
    context = ssl.create_default_context(cafile=str(server.folder / "cert.pem"))
    with connect(server.url, ssl=context) as link:
        certificate = link.socket.getpeercert()  # type: ignore[attr-defined]
    return str(dict(part[0] for part in certificate["subject"])["commonName"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_over_tls_it_is_the_same_and_sighup_reads_the_certificate_again(tmp_path: Path):
    make_certificate(tmp_path, "first")
    with running(tmp_path, server='tls_enabled = true\ntls_cert_path = "cert.pem"\ntls_key_path = "key.pem"') as server:
        assert server.url.startswith("wss://")
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with connect(server.url, ssl=context) as agent:
            assert register(agent, "unit-tls")["status"] == 200
            large = json.dumps({"type": "heartbeat", "data": {"timestamp": 1, "more": "x" * 100_000}, "request_id": "r"})
            for message in (SEED_HEARTBEAT, large, SEED_HEARTBEAT):
                agent.send(message)
            assert [type(agent.recv(5)) for _ in range(3)] == [bytes, str, bytes]
            assert subject(server) == "first"
            make_certificate(tmp_path, "second")
            server.signal(signal.SIGHUP)
            while "SIGHUP" not in (tmp_path / "data" / "logs" / "gateway.log").read_text():
                agent.send(SEED_HEARTBEAT)
                agent.recv(5)
            assert subject(server) == "second"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_peer_that_does_not_read_loses_its_link_and_nobody_else_does(tmp_path: Path):
    """The deaf peer asks for answers and reads none; the server keeps at most its bounds for it."""
    more = "[limits]\ncontrol_per_min = 0\ndata_per_s = 0\nframes_per_s = 0"
    with running(tmp_path, more=more) as server, ExitStack() as stack:
        deaf = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        good = stack.enter_context(connect(server.url))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(HEAD + b"\r\n")
        payload = b'{"client_id":"test_client_2","auth_token":"test_token_2"}'
        deaf.sendall(binary(encode_frame(FrameType.CONNECT, UUID, PayloadKind.JSON, payload)))
        register(good, "unit-good")

        def shout() -> None:
            while True:
                deaf.sendall(binary(SEED_HEARTBEAT) * 1000)

        with pytest.raises(OSError, match=r"reset|Broken pipe|timed out"):
            shout()
        good.send(SEED_HEARTBEAT)
        assert isinstance(good.recv(5), bytes)
        reached = sum(server.metric(f'signal_gateway_limits_reached_total{{limit="outbox.{name}"}}') for name in OUTBOX_LIMITS)
        assert reached == 1
        assert server.metric("process_resident_memory_bytes") < 200e6
