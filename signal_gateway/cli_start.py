"""What `serve` and `migrate` do, around the wiring of `app.py`: secrets made, the server run, and the start told to a person."""

import resource
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import trio

from signal_gateway.app import Ports, serve
from signal_gateway.config import Config
from signal_gateway.config_safety import DEMO_API_KEYS, DEMO_ENROLMENT_KEYS, is_exposed, token_secret
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.database import Database, open_database
from signal_gateway.storage.migrate import migrate


def run_server(config: Config) -> bool:
    """Serve until a signal ends it; whether every link was told goodbye. Tells where to connect on stdout once it listens."""
    token_secret(config)  # made on first start, so that a folder that cannot keep it is told of before anybody connects
    allow_open_files()
    return trio.run(_serve, config)


def allow_open_files() -> None:
    """Take as many descriptors as the system lets us (H16): many start programs with 1,024, which is for those that use select()."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(config: Config) -> bool:
    def tell(ports: Ports) -> None:
        print(start_text(config, ports), flush=True)

    return await serve(config, tell)


def migrate_database(config: Config) -> str:
    """Bring the database up to date; a sentence that says so."""

    async def run() -> None:
        async with database_open(config):
            pass

    trio.run(run)
    return "the database is up to date"


@asynccontextmanager
async def database_open(config: Config) -> AsyncGenerator[Database, None]:
    """The database of `config`, at the version of this program, without a server around it. Raises what `serve` raises of it."""
    async with open_database(config.storage, config.data_dir, Metrics()) as database:
        await migrate(database)
        yield database


def start_text(config: Config, ports: Ports) -> str:
    """Where to connect, with what, and what to try first. Names demo credentials, and no other secret, and those on loopback only."""
    program = sys.argv[0] if "/" in sys.argv[0] and Path(sys.argv[0]).name == "signal-gateway" else "signal-gateway"
    url = endpoint(config, ports.websocket)
    lines = [f"Signal gateway {version('signal-gateway')} listens.", "", f"  phones and agents   {url}"]
    api = f"{'https' if config.server.tls_enabled else 'http'}://{_reachable(config.http.host)}:{ports.http}"
    if ports.http is not None:
        lines += [f"  operator's API      {api}/api  {api}/docs", f"  calls, in browsers  {api}/call"]
    watch = f"http://{_reachable(config.metrics.host)}:{ports.metrics}"
    if ports.metrics is not None:
        lines.append(f"  metrics and health  {watch}/metrics  {watch}/health")
    lines += [f"  data                {config.data_dir.resolve()}", ""]
    lines += _demo_lines(config)
    lines.append("Try:")
    if ports.metrics is not None:
        lines += [f"  curl {watch}/health", f"  curl {watch}/metrics"]
    key = "" if set(DEMO_ENROLMENT_KEYS) & set(config.auth.enrolment_keys) else " --enrolment-key KEY"
    lines.append(f"  {program} simulate --url {url} --phones 50 --agents 10{key}")
    if ports.http is not None:
        lines.append(f"  {program} token issue --subject me --role admin")
    return "\n".join(lines)


def endpoint(config: Config, port: int) -> str:
    """Where a client on this machine finds the server: `ws://` or `wss://`, with its path."""
    return f"{'wss' if config.server.tls_enabled else 'ws'}://{_reachable(config.server.host)}:{port}/ws"


def first_enrolment_key(config: Config) -> str:
    """The first key of the configuration that lets new devices in; that of the shipped one where there is none."""
    return next(iter(config.auth.enrolment_keys), *DEMO_ENROLMENT_KEYS).partition(":")[2]


def _demo_lines(config: Config) -> list[str]:
    clients = [entry for entry in config.auth.api_keys if entry in DEMO_API_KEYS]
    keys = [entry for entry in config.auth.enrolment_keys if entry in DEMO_ENROLMENT_KEYS]
    if is_exposed(config) or not clients + keys:
        return []
    lines = ["Demo credentials, for this machine alone:"]
    lines += [f"  agent  client_id {client}  auth_token {token}" for client, _, token in (entry.partition(":") for entry in clients)]
    lines += [f"  phone  api_key {key}" for _, _, key in (entry.partition(":") for entry in keys)]
    return [*lines, ""]


def _reachable(host: str) -> str:
    """A host to connect to: one that stands for every address is reached on loopback."""
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not listened on
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
