"""The command line: one readable line for what goes wrong, exit codes that scripts can rely on."""

import ast
import io
import subprocess
import sys
from pathlib import Path

import pytest
import segno
import trio

from signal_gateway.cli import main
from signal_gateway.cli_errors import CommandFailed, sentences
from signal_gateway.config_sources import ConfigError
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.services.provisioning import provisioning_data, provisioning_text
from signal_gateway.testing import fleet
from signal_gateway.websocket.server_settings import ServerSettings
from signal_gateway.websocket.sockets import open_listeners

ROOT = Path(__file__).parent.parent
COMMANDS = [
    *(["serve"], ["check-config"], ["migrate"], ["backup"]),
    *(["key", verb] for verb in ("create", "list", "revoke")),
    ["rooms", "export"],
    *(["frame", verb] for verb in ("inspect", "build", "send")),
]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_help_names_every_command(run):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name in ("serve", "check-config", "migrate", "simulate", "key", "frame"):
        assert f"\n  {name} " in out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_takes_a_configuration_and_explains_itself(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "--config FILE" in out


def test_the_version_is_told(run):
    assert run("--version") == (0, "0.1.0\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "error: No such command 'nope'."),
        (["check-config", "--config", "none.toml"], "error: none.toml: cannot be read: No such file or directory"),
        (["frame", "build", "HEARTBAT"], "error: 'HEARTBAT' is no frame type; did you mean HEARTBEAT?"),
        (["simulate", "--phones", "many"], "error: "),
    ],
)
def test_an_error_is_one_line_on_stderr_and_exit_code_2(run, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_bad_toml_is_told_with_its_line(run, tmp_path):
    (tmp_path / "bad.toml").write_text("[server]\nport = = 1\n")
    assert run("serve", "--config", "bad.toml") == (2, "", "error: bad.toml: not TOML: Invalid value (at line 2, column 8)\n")


def test_check_config_tells_every_problem_a_line_each(run, tmp_path):
    (tmp_path / "bad.toml").write_text('[server]\nprot = 1\nport = "x"\n')
    code, _, err = run("check-config", "--config", "bad.toml")
    assert code == 2
    assert [line.partition(": ")[0] for line in err.splitlines()] == ["error", "error"]


def test_check_config_finds_the_shipped_file_fine(run):
    assert run("check-config", "--config", str(ROOT / "config.toml")) == (0, f"{ROOT / 'config.toml'}: fine\n", "")


def test_without_an_option_config_toml_of_the_folder_is_read_if_there_is_one(run, tmp_path):
    assert run("check-config") == (0, "the defaults: fine\n", "")
    (tmp_path / "config.toml").write_text("[server]\nwrite_buffer_size = 1\n")
    notice = "note: server.write_buffer_size has no effect: [outbox] bounds what waits for a peer\n"
    assert run("check-config") == (0, "config.toml: fine\n", notice)


@pytest.mark.parametrize("command", ["check-config", "serve"])
def test_a_dangerous_configuration_is_refused_before_anything_is_started(run, tmp_path, monkeypatch, command):
    monkeypatch.setenv("SIGNAL_GATEWAY_SERVER__HOST", "0.0.0.0")
    code, out, err = run(command, "--config", str(ROOT / "config.toml"))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 3
    assert "server.tls_enabled" in err
    assert "test_token_1" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_default_configuration_can_be_printed_and_read_again(run, tmp_path):
    _, out, _ = run("check-config", "--print-default")
    assert out == (ROOT / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(out)
    assert run("check-config")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["key", "create", "--client-id", "a"],
        ["key", "create", "--kind", "client"],
        ["key", "create", "--kind", "client", "--client-id", "a", "--qr"],
        ["key", "create", "--kind", "operator"],
        ["key", "create", "--role", "viewer"],
        ["key", "create", "--sitename", "x"],
        ["key", "create", "--kind", "device", "--client-id", "a", "--group", "g"],
    ],
)
def test_options_of_a_key_that_contradict_each_other_are_refused_and_make_no_database(run, tmp_path, arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("error: --")
    assert list(tmp_path.iterdir()) == []


def test_a_code_in_the_terminal_is_what_phones_read(run, monkeypatch):
    """Drawn once more from the object of T-36, with the key that was shown, it looks the same."""
    monkeypatch.setattr("signal_gateway.cli_keys.wall_ms", lambda: 1_767_225_600_000)
    monkeypatch.setenv("SIGNAL_GATEWAY_SERVER__PUBLIC_URL", "wss://gateway.example/ws")
    code, out, _ = run("key", "create", "--qr", "--group", "shop", "--sitename", "Wien 7")
    drawn, _, rest = out.partition("It leads to wss://gateway.example/ws\n")
    data = provisioning_data(rest.splitlines()[-1], "wss://gateway.example/ws", PhoneSettings(), 1_767_225_600_000, "shop", "Wien 7")
    expected = io.StringIO()
    segno.make_qr(provisioning_text(data), error="l").terminal(expected, compact=True)
    assert (code, drawn) == (0, expected.getvalue())


def test_simulate_hands_its_options_to_the_fleet_and_tells_how_it_went(run, monkeypatch):
    plans = []

    async def recorded(plan):
        plans.append(plan)
        return len(plans) == 1

    monkeypatch.setattr(fleet, "run", recorded)
    assert (
        run("simulate", "--phones", "3", "--agents", "0", "--seconds", "2", "--rate", "5", "--enrolment-key", "k", "--hostile", "7")[0] == 0
    )
    assert run("simulate")[0] == 1
    assert plans == [
        fleet.Plan(url="ws://127.0.0.1:8080/ws", phones=3, agents=0, seconds=2.0, enrolment_key="k", rate_per_s=5.0, hostile=7),
        fleet.Plan(url="ws://127.0.0.1:8080/ws", phones=50, agents=10, seconds=None),
    ]


def test_simulate_finds_the_server_and_the_key_of_a_configuration(run, monkeypatch, tmp_path):
    plans = []

    async def recorded(plan):
        plans.append(plan)
        return True

    monkeypatch.setattr(fleet, "run", recorded)
    config = tmp_path / "other.toml"
    config.write_text('[server]\nhost = "0.0.0.0"\nport = 9999\n[auth]\nenrolment_keys = ["shop:a-key-of-the-shop"]\n')
    assert run("simulate", "--config", str(config))[0] == 0
    assert run("simulate", "--config", str(config), "--url", "ws://[::1]:1/ws", "--enrolment-key", "k")[0] == 0
    assert [(plan.url, plan.enrolment_key) for plan in plans] == [("ws://127.0.0.1:9999/ws", "a-key-of-the-shop"), ("ws://[::1]:1/ws", "k")]


def test_hostile_clients_are_refused_against_a_server_elsewhere_or_without_an_end(run):
    code, out, err = run("simulate", "--url", "ws://192.0.2.1/ws", "--seconds", "1", "--hostile", "1")
    assert (code, out, err) == (2, "", "error: hostile clients attack servers on 127.0.0.0/8 alone, which '192.0.2.1' is not\n")
    code, out, err = run("simulate", "--hostile", "1")
    assert (code, out, err) == (2, "", "error: hostile clients need an end: say for how many seconds, 3600 at the most\n")


# Which errors are told, and which are ours


def test_errors_of_several_tasks_are_told_once_each_when_all_can_be():
    group = BaseExceptionGroup("x", [DatabaseDown(), ExceptionGroup("y", [DatabaseDown(), ConfigError(["a", "b"])])])
    assert sentences(group) == ["Database unavailable", "a", "b"]
    assert sentences(ExceptionGroup("x", [DatabaseDown(), KeyError("ours")])) is None


def test_a_fault_of_ours_is_not_told_in_one_line_but_raised(run, monkeypatch):
    def broken(plan):
        raise KeyError("ours")

    monkeypatch.setattr(fleet, "run", broken)
    with pytest.raises(KeyError):
        run("simulate")


def test_what_a_system_call_says_is_told_with_its_file():
    assert sentences(FileNotFoundError(2, "No such file or directory", "/x")) == ["/x: No such file or directory"]
    assert sentences(OSError("all attempts failed")) == ["all attempts failed"]


async def test_a_port_in_use_is_told_with_its_address_and_its_setting():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(OSError, match="in use") as raised:
            await open_listeners(ServerSettings(port=port), None)
    assert sentences(raised.value) == [f"cannot listen on 127.0.0.1:{port}: the port is in use (server.host, server.port)"]


def test_a_sentence_keeps_to_one_line(run, monkeypatch):
    async def refused(plan):
        raise CommandFailed("a\nb", "c")

    monkeypatch.setattr(fleet, "run", refused)
    assert run("simulate") == (2, "", "error: a b\nerror: c\n")


@pytest.mark.slow
def test_help_imports_nothing_heavy():
    """It answers at once: no database, no WebSocket library, no metrics."""
    program = "import sys; from signal_gateway.cli import main; main(['--help']); print(sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = set(ast.literal_eval(out.splitlines()[-1]))
    assert loaded & {"sqlalchemy", "trio", "trio_websocket", "prometheus_client", "construct", "msgspec", "structlog", "rich"} == set()
