"""The two programs in C, compiled on the spot into a folder that is not kept."""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / ".build"
FLAGS = ("-O2", "-Wall", "-Wextra")
TLS_FLAGS = ("-DWITH_TLS", "-lssl", "-lcrypto")
PEER = HERE / "peers"
LOAD = HERE / "load_side"
OPENSSL_HEADER = Path("/usr/include/openssl/ssl.h")


class Unmeasured(Exception):
    """Something could not be measured: what is missing or went wrong, in words. Its bars count as missed."""


def epoll_echo() -> Path:
    """The C echo."""
    return _compiled("epoll_echo", PEER, ["epoll_echo.c"], ())


def load(with_tls: bool = False) -> Path:
    """The load side, with TLS or without."""
    if with_tls and not OPENSSL_HEADER.exists():
        raise Unmeasured("the load side needs the headers of OpenSSL for TLS: apt-get install libssl-dev")
    sources = sorted(path.name for path in LOAD.glob("*.c"))
    return _compiled("load_tls" if with_tls else "load", LOAD, sources, TLS_FLAGS if with_tls else ())


def _compiled(name: str, folder: Path, sources: list[str], more: tuple[str, ...]) -> Path:
    program = FOLDER / name
    newest = max(path.stat().st_mtime for path in (*folder.glob("*.c"), *folder.glob("*.h")))
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    if (compiler := shutil.which("cc")) is None:
        raise Unmeasured("there is no C compiler, cc")
    FOLDER.mkdir(exist_ok=True)
    command = [compiler, *FLAGS, "-o", str(program), *sources, *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unmeasured(f"cc failed: {done.stderr.strip()[-500:]}")
    return program
