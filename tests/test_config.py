"""Settings from file and environment, and every fault told at once."""

import re

import pytest

from signal_gateway.config import SECRETS, Config, fields_of, load_config, sections
from signal_gateway.config_sources import ConfigError
from signal_gateway.config_text import field_docs
from signal_gateway.config_values import range_of
from signal_gateway.domain.phone_settings import PhoneSettings


@pytest.fixture
def load(tmp_path):
    """Load a TOML text and an environment."""

    def load(text: str = "", **environ: str) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return load_config(path, environ)

    return load


@pytest.fixture
def problems(load, tmp_path):
    """What is wrong with a TOML text and an environment, without the file's own name."""

    def problems(text: str = "", **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            load(text, **environ)
        return [problem.replace(str(tmp_path / "config.toml"), "FILE") for problem in raised.value.problems]

    return problems


def test_without_file_and_environment_the_defaults_hold():
    """Names and defaults of seed 003 (S-43 to S-50), except where the contract gives others."""
    config = load_config(None, {})
    assert config == Config()
    server, auth = config.server, config.auth
    assert (server.host, server.port, server.max_connections, server.heartbeat_interval) == ("127.0.0.1", 8080, 1000, 30)
    assert (server.tls_enabled, server.read_buffer_size, server.write_buffer_size, server.max_message_size) == (
        False,
        8192,
        8192,
        1_048_576,
    )
    assert (server.data_dir, config.http.port) == ("data", 8081)
    assert (auth.token_secret, auth.token_expiry, auth.auth_method, auth.api_keys, auth.enrolment_keys) == ("", 3600, "token", (), ())
    assert (auth.registration, auth.deadline_s) == ("enrolment", 5.0)
    assert (config.cloudflare.base_url, config.cloudflare.stun_url) == (
        "https://rtc.live.cloudflare.com/v1",
        "stun:stun.cloudflare.com:3478",
    )
    log, metrics = config.logging, config.metrics
    assert (log.level, log.format, log.console_output, log.max_file_size, log.max_files) == ("info", "json", True, 10_485_760, 5)
    assert (metrics.enabled, metrics.port, metrics.host) == (True, 9090, "127.0.0.1")
    assert (metrics.connection_stats_interval, metrics.message_stats_interval) == (60, 30)
    session, security, limits = config.session, config.security, config.limits
    assert (session.session_timeout, session.cleanup_interval, session.max_sessions_per_client) == (3600, 300, 1)
    assert session.duplicate_policy == "kick_old"
    assert (security.rate_limit_enabled, security.max_messages_per_minute, security.max_connections_per_ip) == (True, 100, 64)
    assert (security.allowed_origins, security.max_failed_auth_per_ip_per_minute, security.max_unauthenticated) == (("self",), 10, 512)
    assert (limits.data_per_s, limits.data_burst, limits.control_per_min, limits.control_burst) == (100, 200, 100, 100)
    assert (limits.signal_per_min, limits.signal_burst, limits.frames_per_s, limits.frames_burst) == (300, 100, 200, 400)
    assert config.phones == PhoneSettings()


def test_a_file_changes_what_it_names_and_nothing_else(load):
    config = load('[server]\nport = 9000\n[auth]\napi_keys = ["a:b", "c:d"]\n[link]\nsilence_max_s = 5\n')
    assert (config.server.port, config.server.host) == (9000, "127.0.0.1")
    assert config.auth.api_keys == ("a:b", "c:d")
    assert config.link.silence_max_s == 5.0
    assert config.path is not None
    assert config.path.name == "config.toml"


def test_unknown_keys_are_told_with_the_nearest_known_one(problems):
    text = "[server]\nprot = 1\nmax_unauthenticated = 5\nzzz = 1\n[severs]\nx = 1\n"
    assert problems(text) == [
        "FILE: server.prot is no setting; did you mean server.port?",
        "FILE: server.max_unauthenticated is no setting; did you mean security.max_unauthenticated?",
        "FILE: server.zzz is no setting",
        "FILE: [severs] is no section; did you mean server?",
    ]


def test_the_section_of_the_seed_that_is_replaced_names_its_replacement(problems):
    sentence = "[firestore] is not used here: the database is set in [storage]"
    assert problems('[firestore]\nproject_id = "x"\n') == [f"FILE: {sentence}"]
    assert problems(SIGNAL_MANAGER_FIRESTORE_PROJECT_ID="x") == [f"SIGNAL_MANAGER_FIRESTORE_PROJECT_ID: {sentence}"]


def test_a_key_outside_of_its_section_is_sent_home(problems):
    assert problems("trusted_proxies = []\nserver = 1\n") == [
        "FILE: trusted_proxies stands outside of any section: it belongs into [server]",
        "FILE: server is a section: write [server]",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('server.port = "8080"', "server.port: expected a whole number from 0 to 65535, got the text '8080'"),
        ("server.port = 65536", "server.port: expected a whole number from 0 to 65535, got the number 65536"),
        ("server.port = -1", "server.port: expected a whole number from 0 to 65535, got the number -1"),
        ("server.port = 80.5", "server.port: expected a whole number from 0 to 65535, got the number 80.5"),
        ("server.port = true", "server.port: expected a whole number from 0 to 65535, got true"),
        ("metrics.enabled = 1", "metrics.enabled: expected true or false, got the number 1"),
        ("server.host = []", "server.host: expected a text, got a list"),
        ("server.host = 2026-01-01", "server.host: expected a text, got a date"),
        ('server.trusted_proxies = "10.0.0.1"', "server.trusted_proxies: expected a list of texts, got the text '10.0.0.1'"),
        ('server.trusted_proxies = ["a", 7]', "server.trusted_proxies: expected a list of texts, got a list with 7"),
        ('logging.level = "loud"', 'logging.level: expected one of "debug", "info", "warning", "error", got the text \'loud\''),
        ("link.silence_max_s = 0", "link.silence_max_s: expected a number above 0, got the number 0"),
        ("link.silence_max_s = inf", "link.silence_max_s: expected a number above 0, got the number inf"),
        ("link.silence_max_s = nan", "link.silence_max_s: expected a number above 0, got the number nan"),
        ("limits.data_per_s = -1", "limits.data_per_s: expected a number of 0 or more, got the number -1"),
        ("phones.signal_low_threshold = 5", "phones.signal_low_threshold: expected a whole number from 0 to 4, got the number 5"),
        ("auth.token_secret = 12345678", "auth.token_secret: expected a text, got something else"),
        ('auth.api_keys = "a:hush"', "auth.api_keys: expected a list of texts, got something else"),
    ],
)
def test_a_wrong_value_is_told_with_its_key_what_was_expected_and_what_came(problems, line, problem):
    section, _, assignment = line.partition(".")
    assert problems(f"[{section}]\n{assignment}\n") == [f"FILE: {problem}"]


def test_every_problem_is_told_at_once_each_on_one_line(problems):
    found = problems('[server]\nport = "x"\nnope = 1\n[metrics]\nport = -1\n', SIGNAL_GATEWAY_LINK__PING_AFTER_S="soon")
    assert [re.match(r"[^:]+: (?:\w+\.\w+)", problem)[0] for problem in found] == [  # pyright: ignore[reportOptionalSubscript]
        "FILE: server.nope",
        "FILE: server.port",
        "FILE: metrics.port",
        "SIGNAL_GATEWAY_LINK__PING_AFTER_S: link.ping_after_s",
    ]
    assert not any("\n" in problem for problem in found)


def test_a_file_that_is_not_toml_is_told_with_its_line(problems):
    assert problems("[server]\nport = \n") == ["FILE: not TOML: Invalid value (at line 2, column 8)"]


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    for path, why in ((tmp_path / "none.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=f"{re.escape(str(path))}: cannot be read: {why}"):
            load_config(path, {})
    (tmp_path / "latin.toml").write_bytes(b"# \xe4")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 2"):
        load_config(tmp_path / "latin.toml", {})


# The environment


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SERVER__PORT", "9000", 9000),
        ("SERVER__HOST", "10", "10"),
        ("LINK__SILENCE_MAX_S", "7.5", 7.5),
        ("SERVER__TLS_ENABLED", "true", True),
        ("SERVER__TLS_ENABLED", "0", False),
        ("SERVER__TRUSTED_PROXIES", "10.0.0.1, 10.1.0.0/16", ("10.0.0.1", "10.1.0.0/16")),
        ("SERVER__TRUSTED_PROXIES", '["10.0.0.1", "::1"]', ("10.0.0.1", "::1")),
        ("SERVER__TRUSTED_PROXIES", "", ()),
        ("LOGGING__LEVEL", "debug", "debug"),
    ],
)
def test_a_variable_stands_above_the_file_in_the_type_of_its_setting(load, name, text, value):
    config = load('[server]\nport = 1\ntrusted_proxies = ["127.0.0.1"]\n', **{f"SIGNAL_GATEWAY_{name}": text})
    section, key = name.lower().split("__")
    assert getattr(getattr(config, section), key) == value


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("SERVER__PORT", "many", "server.port: expected a whole number from 0 to 65535, got the text 'many'"),
        ("SERVER__TLS_ENABLED", "perhaps", "server.tls_enabled: expected true or false, got the text 'perhaps'"),
        ("SERVER__TRUSTED_PROXIES", '["a"', "server.trusted_proxies: expected a list of texts, got the text '[\"a\"'"),
        ("SERVER__PROT", "1", "names no setting; did you mean SIGNAL_GATEWAY_SERVER__PORT?"),
        ("SERVER_PORT", "1", "names no setting; did you mean SIGNAL_GATEWAY_SERVER__PORT?"),
        ("QQQ", "1", "names no setting (SIGNAL_GATEWAY_SECTION__KEY)"),
    ],
)
def test_a_variable_that_cannot_be_used_is_told_by_its_name(problems, name, text, problem):
    assert problems(**{f"SIGNAL_GATEWAY_{name}": text}) == [f"SIGNAL_GATEWAY_{name}: {problem}"]


def test_the_names_of_the_seed_are_read_and_ours_win(load):
    assert load("[server]\nport = 1\n", SIGNAL_MANAGER_SERVER_PORT="2").server.port == 2
    assert load(SIGNAL_MANAGER_SERVER_PORT="2", SIGNAL_GATEWAY_SERVER__PORT="3").server.port == 3
    assert load(SIGNAL_MANAGER_SERVER_MAX_MESSAGE_SIZE="4096").server.max_message_size == 4096


def test_a_misspelt_name_of_the_seed_is_an_error_too(problems):
    assert problems(SIGNAL_MANAGER_SERVER_PROT="2") == [
        "SIGNAL_MANAGER_SERVER_PROT: names no setting; did you mean SIGNAL_MANAGER_SERVER_PORT?"
    ]


def test_a_secret_comes_from_a_file_without_its_last_line_break(load, tmp_path):
    (tmp_path / "secret").write_text("hush hush\n")
    assert load(SIGNAL_GATEWAY_AUTH__TOKEN_SECRET_FILE=str(tmp_path / "secret")).auth.token_secret == "hush hush"
    (tmp_path / "secret").write_text("a:one, b:two\r\n")
    assert load(SIGNAL_GATEWAY_AUTH__API_KEYS_FILE=str(tmp_path / "secret")).auth.api_keys == ("a:one", "b:two")


def test_a_secret_that_comes_twice_or_from_a_file_that_is_not_there_is_an_error(problems, tmp_path):
    twice = {"SIGNAL_GATEWAY_AUTH__TOKEN_SECRET": "x", "SIGNAL_GATEWAY_AUTH__TOKEN_SECRET_FILE": "/nowhere"}
    assert problems(**twice) == ["SIGNAL_GATEWAY_AUTH__TOKEN_SECRET_FILE: SIGNAL_GATEWAY_AUTH__TOKEN_SECRET sets auth.token_secret already"]
    missing = "SIGNAL_GATEWAY_AUTH__TOKEN_SECRET_FILE"
    assert problems(**{missing: "/nowhere"}) == [f"{missing}: /nowhere cannot be read: No such file or directory"]
    (tmp_path / "big").write_bytes(b"a" * 65_537)
    assert problems(**{missing: str(tmp_path / "big")}) == [f"{missing}: {tmp_path / 'big'} has more than 65536 bytes"]


def test_what_kubernetes_sets_beside_a_service_of_our_name_is_no_error(load):
    names = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_WS", "PORT", "PORT_8080_TCP", "PORT_8080_TCP_ADDR")
    assert load(**{f"SIGNAL_GATEWAY_{name}": "tcp://10.0.0.1:8080" for name in names}, HOME="/", PATH="x").server.port == 8080


# Together


def test_the_one_rate_of_the_seed_is_the_rate_of_the_control_class(load):
    assert load("[security]\nmax_messages_per_minute = 30\n").limits.control_per_min == 30
    assert load("[security]\nmax_messages_per_minute = 30\n[limits]\ncontrol_per_min = 50\n").limits.control_per_min == 50
    assert load(SIGNAL_MANAGER_SECURITY_MAX_MESSAGES_PER_MINUTE="40").limits.control_per_min == 40


@pytest.mark.parametrize("name", [name for name in sections() if name != "path"])
def test_every_key_that_says_zero_means_something_takes_zero_and_none_takes_less(name):
    section = sections()[name]
    docs = field_docs(section)
    for key, field in fields_of(section).items():
        bounds = range_of(f"{name}.{key}", field.type)
        if bounds is None:
            continue
        assert bounds.holds(0) or "0 =" not in docs[key], f"{name}.{key}"
        assert not bounds.holds(-1)
        assert bounds.holds(getattr(getattr(Config(), name), key)), f"{name}.{key}: its own default"


def test_no_repr_shows_a_secret(load):
    canaries = {name: f"canary-{number}" for number, name in enumerate(SECRETS)}
    environ = {f"SIGNAL_GATEWAY_{name.replace('.', '__').upper()}": f"x:{text}" for name, text in canaries.items()}
    environ["SIGNAL_GATEWAY_STORAGE__URL"] = f"postgresql://gateway:{canaries['storage.url']}@db/gateway"
    config = load(**environ)
    shown = repr(config) + str(config) + "".join(repr(getattr(config, name)) for name in sections())
    assert [name for name, text in canaries.items() if text in shown] == []
    assert all(any(text in secret for secret in config.secrets()) for text in canaries.values())
