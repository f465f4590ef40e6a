"""What is looked at before the start: settings that do not fit together, that have no effect, or that would be dangerous (H32).

Danger is a listener that others can reach. On loopback the shipped demo credentials are welcome; beyond it, and behind a proxy, each of
them is a refusal of its own, unless `server.insecure` says that somebody knows. The metrics port counts for nothing here: nobody signs
in there.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from signal_gateway.config import Config
from signal_gateway.domain.ids import is_client_id
from signal_gateway.domain.turn import is_stun_uri, is_turn_uri
from signal_gateway.services.secret_file import read_or_make_secret

DEMO_API_KEYS = ("test_client_1:test_token_1", "test_client_2:test_token_2")
DEMO_ENROLMENT_KEYS = ("demo:demo-enrolment-key",)
DEFAULT_TOKEN_SECRETS = ("your-secret-key-change-in-production", "your-secret")
"""Printed in seed 003, so known to everybody."""
TOKEN_SECRET_CHARS_MIN = 32
KEY_CHARS_MIN = 16
TOKEN_SECRET_FILE = Path("secrets") / "token_secret"

WITHOUT_EFFECT: Mapping[str, str] = {
    "server.write_buffer_size": "[outbox] bounds what waits for a peer",
    "metrics.connection_stats_interval": "numbers are read at each scrape",
    "metrics.message_stats_interval": "numbers are read at each scrape",
    "session.session_timeout": "a session lives as long as its link, whose silence [link] bounds",
    "session.cleanup_interval": "limits.forget_every_s and presence.sweep_s say how often memory is tidied",
    "session.max_sessions_per_client": "a client has one link, session.duplicate_policy says which",
}
"""Settings that may be given and change nothing here, and why."""


def is_exposed(config: Config) -> bool:
    """Whether others than this machine's users can reach the gateway: beyond loopback, or through a proxy."""
    return not is_loopback(config.server.host) or bool(config.server.trusted_proxies)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`. A name other than localhost is taken as reachable."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_demo(config: Config) -> bool:
    """Whether the demo credentials of the shipped file are in use, for this machine alone."""
    has_demo = bool(set(DEMO_API_KEYS) & set(config.auth.api_keys)) or bool(set(DEMO_ENROLMENT_KEYS) & set(config.auth.enrolment_keys))
    return has_demo and not is_exposed(config) and is_loopback(config.http.host)


def notices(config: Config) -> list[str]:
    """What was set and changes nothing, and what is unusual: told at the start, refused never."""
    default = Config()
    said: list[str] = []
    for name, why in WITHOUT_EFFECT.items():
        section, key = name.split(".")
        if getattr(getattr(config, section), key) != getattr(getattr(default, section), key):
            said.append(f"{name} has no effect: {why}")
    if config.media.mode == "p2p" and config.cloudflare != default.cloudflare:
        said.append('[cloudflare] has no effect: media.mode is "p2p"')
    if not config.security.rate_limit_enabled:
        said.append("security.rate_limit_enabled = false: one client can take the time of all others")
    if config.server.insecure and is_exposed(config):
        said.append("server.insecure = true: the safety checks of the start are off, and others can reach this gateway")
    return said


def refusals(config: Config) -> list[str]:
    """Why the gateway must not start: a sentence each, saying what to set. Empty when it may."""
    said = list(_contradictions(config))
    if not config.server.insecure:
        said += _dangers(config)
    return said


def token_secret(config: Config) -> str:
    """The secret that signs tokens: the configured one, or one of our own making, kept in `<data_dir>/secrets`, mode 0600.

    Raises SecretFileRefused when the file is not what it should be, OSError when it cannot be made.
    """
    return config.auth.token_secret or read_or_make_secret(config.data_dir / TOKEN_SECRET_FILE).hex()


def _dangers(config: Config) -> Iterator[str]:
    server = config.server
    if not is_loopback(server.host) and not server.trusted_proxies and not server.tls_enabled:
        yield (
            f"plain ws:// on {server.host} shows every key to the network: set server.tls_enabled with server.tls_cert_path and "
            'server.tls_key_path, or server.trusted_proxies when a proxy speaks TLS, or server.host = "127.0.0.1"'
        )
    if config.http.enabled and not is_loopback(config.http.host) and not server.trusted_proxies and not server.tls_enabled:
        yield (
            f"plain http:// on {config.http.host} shows every token to the network: set server.tls_enabled, or server.trusted_proxies when "
            'a proxy speaks TLS, or http.host = "127.0.0.1"'
        )
    if "*" in config.http.allowed_origins and not is_loopback(config.http.host):
        yield 'http.allowed_origins = ["*"] lets every page of the web use a visitor\'s token: name the origins'
    if not is_exposed(config):
        return
    where = f"server.host is {server.host}" if not is_loopback(server.host) else "server.trusted_proxies is set"
    if set(DEMO_API_KEYS) & set(config.auth.api_keys):
        yield f"the demo credentials in auth.api_keys are public, and {where}: remove them, or set tokens of your own"
    if set(DEMO_ENROLMENT_KEYS) & set(config.auth.enrolment_keys):
        yield f"the demo credential in auth.enrolment_keys is public, and {where}: remove it, and use `signal-gateway key create`"
    secret = config.auth.token_secret
    if secret in DEFAULT_TOKEN_SECRETS:
        yield f"auth.token_secret is the one that everybody knows, and {where}: leave it empty, and one is made on first start"
    elif secret and len(secret) < TOKEN_SECRET_CHARS_MIN:
        yield f"auth.token_secret is shorter than {TOKEN_SECRET_CHARS_MIN} characters, and {where}: leave it empty to have one made"
    for setting, entries, demo in (
        ("auth.api_keys", config.auth.api_keys, DEMO_API_KEYS),
        ("auth.enrolment_keys", config.auth.enrolment_keys, DEMO_ENROLMENT_KEYS),
    ):
        short = [entry.partition(":")[0] for entry in entries if entry not in demo and len(entry.partition(":")[2]) < KEY_CHARS_MIN]
        if short:
            yield f"{setting}: the secret of {', '.join(short)} has less than {KEY_CHARS_MIN} characters, and {where}: set a longer one"
    if config.media.turn_urls and len(config.media.turn_secret) < KEY_CHARS_MIN:
        yield f"media.turn_secret has less than {KEY_CHARS_MIN} characters, and {where}: whoever has credentials could find it by trying"
    if "*" in config.security.allowed_origins:
        yield f'security.allowed_origins has "*", and {where}: name the origins of your own pages, or "self"'


def _contradictions(config: Config) -> Iterator[str]:
    """Settings that are right alone and wrong together, or that no type can check."""
    server = config.server
    for path_name, path in (("server.tls_cert_path", server.tls_cert_path), ("server.tls_key_path", server.tls_key_path)):
        if server.tls_enabled and not path:
            yield f"server.tls_enabled needs {path_name}"
        elif server.tls_enabled and not Path(path).is_file():
            yield f"{path_name}: there is no file {path}"
    metrics = config.metrics
    if metrics.enabled and server.port and server.port == metrics.port:
        yield f"server.port and metrics.port are both {server.port}"
    for entry in server.trusted_proxies:
        try:
            ip_network(entry, strict=False)
        except ValueError:
            yield f"server.trusted_proxies: {entry!r} is no address and no network like 10.0.0.0/8"
    for origin in config.security.allowed_origins:
        if not _is_origin(origin):
            yield f'security.allowed_origins: {origin!r} is no origin like https://console.example:8443, and not "self" or "*"'
    yield from _media_faults(config)
    yield from _key_faults("auth.api_keys", "client:token", config.auth.api_keys)
    yield from _key_faults("auth.enrolment_keys", "name:key", config.auth.enrolment_keys)


def _media_faults(config: Config) -> Iterator[str]:
    media, cloudflare = config.media, config.cloudflare
    for name, url in (("media.stun_url", media.stun_url), ("cloudflare.stun_url", cloudflare.stun_url)):
        if url and not is_stun_uri(url):
            yield f"{name}: {url!r} is no address like stun:host:3478"
    for url in media.turn_urls:
        if not is_turn_uri(url):
            yield f"media.turn_urls: {url!r} is no address like turn:host:3478?transport=udp"
    if bool(media.turn_urls) != bool(media.turn_secret):
        yield "media.turn_urls and media.turn_secret need each other"
    if media.mode != "cloudflare":
        return
    for name, value in (("cloudflare.app_id", cloudflare.app_id), ("cloudflare.app_secret", cloudflare.app_secret)):
        if not value:
            yield f'media.mode = "cloudflare" needs {name}'
    base = urlsplit(cloudflare.base_url)
    if not base.hostname or (base.scheme != "https" and not (base.scheme == "http" and is_loopback(base.hostname))):
        yield f"cloudflare.base_url: {cloudflare.base_url!r} must be https:// and a host, for cloudflare.app_secret goes there"
    if cloudflare.operation_s >= config.link.handler_deadline_s:
        yield "cloudflare.operation_s must be less than link.handler_deadline_s, which ends whatever a member waits for"


def _is_origin(text: str) -> bool:
    if text in ("self", "*"):
        return True
    parts = urlsplit(text)
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and text == f"{parts.scheme}://{parts.netloc}"
        and "@" not in parts.netloc
    )


def _key_faults(setting: str, form: str, entries: tuple[str, ...]) -> Iterator[str]:
    """Never shows an entry: one without a colon may be a secret alone."""
    for number, entry in enumerate(entries, 1):
        name, colon, key = entry.partition(":")
        if not colon or not key or not is_client_id(name):
            yield f"{setting}: entry {number} is not of the form {form}"
    names = Counter(entry.partition(":")[0] for entry in entries if ":" in entry)
    yield from (f"{setting}: {name} stands there twice" for name, count in names.items() if count > 1 and is_client_id(name))
