"""What may start, what must not, and what is told (H32)."""

import stat

import msgspec
import pytest

from signal_gateway.config import Config
from signal_gateway.config_safety import WITHOUT_EFFECT, is_exposed, is_loopback, notices, refusals, token_secret
from signal_gateway.services.secret_file import SecretFileRefused

LONG = "a-secret-that-is-long-enough-for-anybody"
DEMO = {"api_keys": ("test_client_1:test_token_1", "test_client_2:test_token_2"), "enrolment_keys": ("demo:demo-enrolment-key",)}


def config(**sections):
    default = Config()
    return msgspec.structs.replace(
        default, **{name: msgspec.structs.replace(getattr(default, name), **changes) for name, changes in sections.items()}
    )


@pytest.fixture
def tls(tmp_path):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("x")
    return {"tls_enabled": True, "tls_cert_path": str(tmp_path / "cert.pem"), "tls_key_path": str(tmp_path / "key.pem")}


def test_on_loopback_the_demo_credentials_a_short_secret_and_any_origin_may_start():
    assert refusals(config(auth={**DEMO, "token_secret": "short"}, security={"allowed_origins": ("*",)})) == []


PLACES = [
    ({"host": "0.0.0.0", "trusted_proxies": ()}, "server.host is 0.0.0.0"),
    ({"host": "192.168.1.5", "trusted_proxies": ()}, "server.host is 192.168.1.5"),
    ({"host": "gateway.example", "trusted_proxies": ()}, "server.host is gateway.example"),
    ({"host": "::", "trusted_proxies": ("10.0.0.1",)}, "server.host is ::"),
    ({"host": "127.0.0.1", "trusted_proxies": ("10.0.0.1",)}, "server.trusted_proxies is set"),
]
DANGERS = [
    ({"auth": {"api_keys": DEMO["api_keys"][:1]}}, "the demo credentials in auth.api_keys are public"),
    ({"auth": {"enrolment_keys": DEMO["enrolment_keys"]}}, "the demo credential in auth.enrolment_keys is public"),
    ({"auth": {"token_secret": "your-secret-key-change-in-production"}}, "auth.token_secret is the one that everybody knows"),
    ({"auth": {"token_secret": "a" * 31}}, "auth.token_secret is shorter than 32 characters"),
    ({"auth": {"api_keys": ("robot:" + "a" * 15,)}}, "auth.api_keys: the secret of robot has less than 16 characters"),
    ({"media": {"turn_urls": ("turn:a.example",), "turn_secret": "a" * 15}}, "media.turn_secret has less than 16 characters"),
    ({"security": {"allowed_origins": ("self", "*")}}, 'security.allowed_origins has "*"'),
]


@pytest.mark.parametrize(("place", "where"), PLACES)
@pytest.mark.parametrize(("danger", "sentence"), DANGERS)
def test_beyond_loopback_each_danger_is_one_refusal_that_says_what_to_set(tls, place, where, danger, sentence):
    said = refusals(config(server={**tls, **place}, **danger))
    assert len(said) == 1
    assert said[0].startswith(f"{sentence}, and {where}: ")


@pytest.mark.parametrize(("place", "where"), PLACES)
@pytest.mark.parametrize(("danger", "sentence"), DANGERS)
def test_insecure_lets_each_of_them_start_and_says_so(place, where, danger, sentence):
    exposed = config(server={**place, "insecure": True}, **danger)
    assert refusals(exposed) == []
    assert notices(exposed) == ["server.insecure = true: the safety checks of the start are off, and others can reach this gateway"]


def test_plain_websocket_beyond_loopback_is_refused_until_tls_or_a_proxy_is_set(tls):
    (said,) = refusals(config(server={"host": "0.0.0.0"}))
    assert said.startswith("plain ws:// on 0.0.0.0 shows every key to the network: set server.tls_enabled")
    assert refusals(config(server={"host": "0.0.0.0", **tls})) == []
    assert refusals(config(server={"host": "0.0.0.0", "trusted_proxies": ("10.0.0.1",)})) == []
    assert refusals(config(server={"host": "0.0.0.0", "insecure": True})) == []


def test_keys_of_ones_own_and_an_empty_secret_start_everywhere(tls):
    own = {"api_keys": (f"robot:{LONG}",), "enrolment_keys": (f"shop:{LONG}",), "token_secret": LONG}
    assert refusals(config(server={"host": "0.0.0.0", **tls}, auth=own)) == []
    assert refusals(config(server={"host": "0.0.0.0", **tls}, auth={**own, "token_secret": ""})) == []


def test_a_metrics_port_beyond_loopback_exposes_nobodys_keys():
    exposed = config(metrics={"host": "0.0.0.0"}, auth=DEMO)
    assert not is_exposed(exposed)
    assert refusals(exposed) == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        (
            {"server": {"tls_enabled": True}},
            ["server.tls_enabled needs server.tls_cert_path", "server.tls_enabled needs server.tls_key_path"],
        ),
        ({"server": {"port": 9090}}, ["server.port and metrics.port are both 9090"]),
        ({"server": {"trusted_proxies": ("proxy",)}}, ["server.trusted_proxies: 'proxy' is no address and no network like 10.0.0.0/8"]),
        ({"auth": {"api_keys": ("hush",)}}, ["auth.api_keys: entry 1 is not of the form client:token"]),
        ({"auth": {"api_keys": ("a:x", "b b:hush")}}, ["auth.api_keys: entry 2 is not of the form client:token"]),
        ({"auth": {"enrolment_keys": ("a:",)}}, ["auth.enrolment_keys: entry 1 is not of the form name:key"]),
        ({"auth": {"enrolment_keys": ("a:x", "a:y")}}, ["auth.enrolment_keys: a stands there twice"]),
    ],
)
def test_what_cannot_work_is_refused_even_when_insecure_and_shows_no_secret(sections, sentence):
    sections = {**sections, "server": {**sections.get("server", {}), "insecure": True}}
    assert refusals(config(**sections)) == sentence


CLOUDFLARE = {"app_id": "app", "app_secret": "secret"}
TURN = {"turn_urls": ("turn:turn.example:3478",), "turn_secret": LONG}


@pytest.mark.parametrize(
    ("media", "cloudflare", "sentences"),
    [
        ({"stun_url": "stun.example"}, {}, ["media.stun_url: 'stun.example' is no address like stun:host:3478"]),
        ({}, {"stun_url": "turn:a.example"}, ["cloudflare.stun_url: 'turn:a.example' is no address like stun:host:3478"]),
        (
            {**TURN, "turn_urls": ("turn:a.example", "a.example:3478")},
            {},
            ["media.turn_urls: 'a.example:3478' is no address like turn:host:3478?transport=udp"],
        ),
        ({"turn_urls": TURN["turn_urls"]}, {}, ["media.turn_urls and media.turn_secret need each other"]),
        ({"turn_secret": LONG}, {}, ["media.turn_urls and media.turn_secret need each other"]),
        (
            {"mode": "cloudflare"},
            {},
            ['media.mode = "cloudflare" needs cloudflare.app_id', 'media.mode = "cloudflare" needs cloudflare.app_secret'],
        ),
        (
            {"mode": "cloudflare"},
            {**CLOUDFLARE, "base_url": "http://rtc.example/v1"},
            ["cloudflare.base_url: 'http://rtc.example/v1' must be https:// and a host, for cloudflare.app_secret goes there"],
        ),
        (
            {"mode": "cloudflare"},
            {**CLOUDFLARE, "base_url": "https:///v1"},
            ["cloudflare.base_url: 'https:///v1' must be https:// and a host, for cloudflare.app_secret goes there"],
        ),
        (
            {"mode": "cloudflare"},
            {**CLOUDFLARE, "operation_s": 10.0},
            ["cloudflare.operation_s must be less than link.handler_deadline_s, which ends whatever a member waits for"],
        ),
    ],
)
def test_media_that_cannot_work_are_refused(media, cloudflare, sentences):
    said = refusals(config(media=media, cloudflare=cloudflare))
    assert said == sentences


@pytest.mark.parametrize(
    ("media", "cloudflare"),
    [
        (TURN, {}),
        ({"stun_url": ""}, {"stun_url": ""}),
        ({"mode": "cloudflare"}, CLOUDFLARE),
        ({"mode": "cloudflare", **TURN}, {**CLOUDFLARE, "base_url": "http://127.0.0.1:8000/v1"}),
    ],
)
def test_media_that_can_work_may_start(tls, media, cloudflare):
    exposed = config(server={"host": "0.0.0.0", **tls}, media=media, cloudflare=cloudflare)
    assert refusals(exposed) == []
    assert notices(exposed) == ([] if media.get("mode") or not cloudflare else ['[cloudflare] has no effect: media.mode is "p2p"'])


@pytest.mark.parametrize("origin", ["https://a.example/", "a.example", "https://u@a.example", "ftp://a.example", "https://", "null", ""])
def test_what_is_no_origin_is_refused(origin):
    (said,) = refusals(config(security={"allowed_origins": (origin,)}))
    assert said.startswith(f"security.allowed_origins: {origin!r} is no origin")


@pytest.mark.parametrize("origin", ["self", "https://a.example", "http://localhost:3000", "https://[::1]:8443"])
def test_origins_are_scheme_host_and_port(origin):
    assert refusals(config(security={"allowed_origins": (origin,)})) == []


def test_a_missing_certificate_file_is_refused(tmp_path):
    said = refusals(config(server={"tls_enabled": True, "tls_cert_path": str(tmp_path / "none"), "tls_key_path": str(tmp_path / "none")}))
    assert said == [f"{name}: there is no file {tmp_path / 'none'}" for name in ("server.tls_cert_path", "server.tls_key_path")]


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_key_without_effect_says_so_when_it_is_changed_and_only_then(name):
    section, key = name.split(".")
    default = getattr(getattr(Config(), section), key)
    changed = default + 1 if isinstance(default, int) else f"{default}x"
    assert notices(Config()) == []
    assert notices(config(**{section: {key: changed}})) == [f"{name} has no effect: {WITHOUT_EFFECT[name]}"]


def test_switched_off_rate_limits_are_told():
    assert len(notices(config(security={"rate_limit_enabled": False}))) == 1


def test_an_empty_token_secret_is_made_once_and_kept_for_its_owner_alone(tmp_path):
    fresh = config(server={"data_dir": str(tmp_path / "data")})
    secret = token_secret(fresh)
    path = tmp_path / "data" / "secrets" / "token_secret"
    assert len(bytes.fromhex(secret)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert token_secret(fresh) == secret
    assert token_secret(config(server={"data_dir": str(tmp_path / "other")})) != secret


def test_a_configured_token_secret_writes_no_file(tmp_path):
    assert token_secret(config(server={"data_dir": str(tmp_path)}, auth={"token_secret": LONG})) == LONG
    assert list(tmp_path.iterdir()) == []


def test_a_token_secret_that_others_may_read_is_refused(tmp_path):
    fresh = config(server={"data_dir": str(tmp_path)})
    token_secret(fresh)
    (tmp_path / "secrets" / "token_secret").chmod(0o644)
    with pytest.raises(SecretFileRefused, match="chmod 600"):
        token_secret(fresh)
