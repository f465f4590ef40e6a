"""The real process: started, asked, stopped, and its errors in one line each; keys made beside it."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from signal_gateway.app import Ports
from signal_gateway.cli import main
from signal_gateway.cli_start import start_text
from signal_gateway.config import load_config
from signal_gateway.config_safety import DEMO_ENROLMENT_KEYS

ROOT = Path(__file__).parent.parent
PROGRAM = str(Path(sys.executable).with_name("signal-gateway"))
START_SECONDS_MAX = 20
DEMO_SECRETS = ("test_token_1", "test_token_2", "demo-enrolment-key")

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the shipped configuration, on ports that the system chooses."""
    text = (ROOT / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(
        text.replace("port = 8080", "port = 0").replace("port = 9090", "port = 0").replace("port = 8081", "port = 0")
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def server(folder: Path, **environ: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """The running program and its start text."""
    with subprocess.Popen(
        [PROGRAM, "serve"], cwd=folder, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = ""
            while " simulate " not in said:
                line = process.stdout.readline()
                assert line, f"it ended: {process.stderr.read() if process.stderr else ''}"
                said += line
            yield process, said
        finally:
            process.kill()


def test_it_tells_where_to_connect_answers_there_and_ends_on_sigterm_with_0(folder):
    with server(folder) as (process, said):
        url = re.search(r"ws://127\.0\.0\.1:(\d+)/ws", said)
        health = re.search(r"curl (http://127\.0\.0\.1:\d+/health)", said)
        assert url
        assert health
        assert all(secret in said for secret in DEMO_SECRETS)
        assert "simulate --url ws://127.0.0.1:" in said
        with urlopen(health[1]) as answer:
            report = json.load(answer)
        assert report["status"] == "ready"
        with urlopen(health[1].replace("/health", "/metrics")) as answer:
            page = answer.read().decode()
        assert "signal_gateway_loop_lag_seconds_count" in page
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=START_SECONDS_MAX)
    assert process.returncode == 0
    assert out.strip() == ""  # the end of its last line may come apart
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert "serving" in events
    assert events[-1] == "stopped"
    assert not any(secret in err + page for secret in DEMO_SECRETS)
    assert [json.loads(line)["event"] for line in (folder / "data" / "logs" / "gateway.log").read_text().splitlines()] == events
    secret_file = folder / "data" / "secrets" / "token_secret"
    assert secret_file.stat().st_mode & 0o777 == 0o600
    assert secret_file.read_text().strip() not in err


def test_health_says_draining_until_the_last_flush_and_a_second_signal_ends_at_once(folder):
    """Readiness is gone as soon as the goodbye begins; it is not waited for when somebody insists."""
    with server(folder) as (process, _):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=START_SECONDS_MAX)
    assert process.returncode in (0, 1)


@pytest.mark.parametrize("setting", ["SERVER", "METRICS"])
def test_a_port_in_use_is_one_readable_line(folder, setting):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environ = {**os.environ, f"SIGNAL_GATEWAY_{setting}__PORT": str(port), "SIGNAL_GATEWAY_LOGGING__CONSOLE_OUTPUT": "false"}
        done = subprocess.run(
            [PROGRAM, "serve"], cwd=folder, env=environ, capture_output=True, text=True, timeout=START_SECONDS_MAX, check=False
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert str(port) in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_data_folder_that_cannot_be_made_is_one_readable_line(folder):
    (folder / "data").write_text("a file")
    done = subprocess.run([PROGRAM, "serve"], cwd=folder, capture_output=True, text=True, timeout=START_SECONDS_MAX, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*data.*\n", done.stderr)


def test_a_database_of_a_newer_program_is_refused_in_one_line_and_left_alone(folder, capsys):
    assert main(["migrate"]) == 0
    path = folder / "data" / "gateway.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_of_the_future'")
    connection.close()
    capsys.readouterr()
    assert main(["migrate"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "newer" in err


def test_migrate_makes_a_database_and_does_nothing_the_second_time(folder, capsys):
    assert [main(["migrate"]), main(["migrate"])] == [0, 0]
    assert capsys.readouterr().out == "the database is up to date\n" * 2
    assert (folder / "data" / "gateway.db").is_file()


def test_a_key_is_made_listed_and_revoked_and_its_secret_stands_alone_on_the_last_line(folder, capsys):
    assert main(["key", "create", "--label", "shop", "--group", "vienna", "--max-devices", "3"]) == 0
    *head, secret = capsys.readouterr().out.splitlines()
    match = re.fullmatch(r"sgk_([a-z2-7]{12})_[A-Za-z0-9_-]{43}", secret)
    assert match
    assert secret not in " ".join(head)

    assert main(["key", "list"]) == 0
    listed = capsys.readouterr().out
    assert re.search(
        rf"^{match[1]}  enrolment  at most 3 devices of vienna  live +\d{{4}}-\d\d-\d\d \d\d:\d\d  shop$", listed, re.MULTILINE
    )
    assert secret not in listed

    assert main(["key", "revoke", match[1]]) == 0
    assert capsys.readouterr().out == f"revoked {match[1]}\n"
    assert main(["key", "revoke", match[1]]) == 2
    assert capsys.readouterr().err == f"error: there is no key '{match[1]}' that could be revoked\n"
    main(["key", "list"])
    assert "  revoked  " in capsys.readouterr().out
    assert secret.encode() not in b"".join(path.read_bytes() for path in (folder / "data").rglob("*") if path.is_file())


def test_client_and_device_keys_are_for_one_id(folder, capsys):
    for kind in ("client", "device"):
        assert main(["key", "create", "--kind", kind, "--client-id", "robot-1", "--expires-days", "1"]) == 0
    main(["key", "list"])
    rows = [line.split()[1:4] for line in capsys.readouterr().out.splitlines() if "robot-1" in line]
    assert sorted(rows) == [["client", "robot-1", "live"], ["device", "robot-1", "live"]]
    assert main(["key", "create", "--kind", "client", "--client-id", "not an id"]) == 2
    assert "error: a client key is for one client" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2_592_000), ("1.5h", 5400), ("45m", 2700), ("90s", 90), ("100", 100)])
def test_a_token_is_good_for_as_long_as_was_asked(folder, capsys, text, seconds):
    assert main(["token", "issue", "--subject", "eve", "--expires", text]) == 0
    assert f"good for {seconds} s" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["-5", "nan", "1e400", "x", "d", "", "0"])
def test_a_token_that_is_good_for_no_time_is_refused(folder, capsys, text):
    assert main(["token", "issue", "--subject", "eve", "--expires", text]) == 2
    assert "is no length of time like 30d" in capsys.readouterr().err


def test_a_token_is_revoked_by_its_id_or_itself_and_what_can_be_neither_is_not(folder, capsys):
    def revoke(text: str) -> tuple[int, str]:
        code = main(["token", "revoke", text])
        said = capsys.readouterr()
        return code, said.out + said.err

    for text in ("abc", "", "a b c d e f g", "x" * 65):
        assert revoke(text) == (2, "error: this is no id of a token: it has 8 to 64 letters, digits, - and _\n")
    assert revoke("no.token.ofours") == (2, "error: this is no token of this gateway\n")
    tokens: list[tuple[str, str]] = []
    for _ in range(2):
        main(["token", "issue", "--subject", "eve"])
        head, token = capsys.readouterr().out.splitlines()
        tokens.append((head.split()[2], token))
    assert revoke(tokens[0][0]) == revoke(tokens[1][1]) == (0, "revoked\n")
    assert revoke(tokens[1][0]) == (2, "error: this token was revoked before\n")
    assert revoke(tokens[0][0] + "x")[1].startswith("revoked; but of a token of this id nothing is known here")


def test_a_listed_operator_key_shows_what_it_may_do_and_where(folder, capsys):
    main(["key", "create", "--kind", "operator", "--role", "operator", "--groups", "north,east", "--devices", "d-1"])
    main(["key", "create", "--kind", "operator", "--role", "viewer"])
    capsys.readouterr()
    main(["key", "list"])
    listed = capsys.readouterr().out
    assert "operator  operator of d-1, group east, group north  live" in listed
    assert "operator  viewer of the whole fleet  " in listed


def test_a_whole_key_given_as_an_id_is_not_repeated(folder, capsys):
    secret = "sgk_abcdefghijkl_" + "s" * 43
    assert main(["key", "revoke", secret]) == 2
    out, err = capsys.readouterr()
    assert "sssss" not in out + err


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ["ws://127.0.0.1:8080/ws", "http://127.0.0.1:9090/health", "http://127.0.0.1:8081/api", *DEMO_SECRETS]),
        ({"SIGNAL_GATEWAY_SERVER__HOST": "0.0.0.0"}, ["ws://127.0.0.1:8080/ws"]),
        ({"SIGNAL_GATEWAY_SERVER__HOST": "::1"}, ["ws://[::1]:8080/ws", *DEMO_SECRETS]),
        ({"SIGNAL_GATEWAY_SERVER__TLS_ENABLED": "true"}, ["wss://127.0.0.1:8080/ws", *DEMO_SECRETS]),
        ({"SIGNAL_GATEWAY_AUTH__API_KEYS": "robot:" + "x" * 20, "SIGNAL_GATEWAY_AUTH__ENROLMENT_KEYS": ""}, ["ws://127.0.0.1:8080/ws"]),
    ],
)
def test_the_start_text_names_demo_credentials_on_loopback_and_no_other_secret_ever(environ, names):
    text = start_text(load_config(ROOT / "config.toml", environ), Ports(8080, 9090, 8081))
    assert [name for name in (*names,) if name not in text] == []
    assert [secret for secret in (*DEMO_SECRETS, "x" * 20) if secret in text and secret not in names] == []


def test_what_the_start_text_says_to_try_works_with_the_keys_that_there_are():
    for keys, asks_for_one in (("", True), ("shop:" + "x" * 20, True), (",".join(DEMO_ENROLMENT_KEYS), False)):
        text = start_text(load_config(None, {"SIGNAL_GATEWAY_AUTH__ENROLMENT_KEYS": keys}), Ports(8080, 9090, 8081))
        assert text.count("--phones 50 --agents 10 --enrolment-key KEY") == asks_for_one


def test_without_metrics_the_start_text_names_no_port_of_theirs():
    text = start_text(load_config(ROOT / "config.toml", {}), Ports(8080, None, None))
    assert "curl" not in text
    assert "simulate --url ws://127.0.0.1:8080/ws" in text
