"""Secrets that the gateway makes for itself on first start: one file each, for nobody else to read (CONTRACT.md §4)."""

import os
from collections.abc import Callable
from pathlib import Path

SECRET_BYTES = 32


class SecretFileRefused(Exception):
    """A secret file is open to others, or is not what we wrote. The sentence says which file and what to do; never its content."""


def read_or_make_secret(path: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """The 32 bytes that `path` holds as hex; made when there is no such file (mode 0600, in a folder of mode 0700).

    Several processes may do this at once: one file wins, and all read that one. It is on disk before this returns, for whatever
    is stored under it would be worthless without it. Raises SecretFileRefused.
    """
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_open(folder)
    if not path.exists():
        _make(path, random_bytes(SECRET_BYTES))
    _refuse_open(path)
    try:
        secret = bytes.fromhex(path.read_text("ascii"))
    except ValueError:
        raise SecretFileRefused(f"{path} does not hold a secret in hex: restore it, or remove it and issue all keys anew") from None
    if len(secret) != SECRET_BYTES:
        raise SecretFileRefused(
            f"{path} holds {len(secret)} bytes instead of {SECRET_BYTES}: restore it, or remove it and issue all keys anew"
        )
    return secret


def _make(path: Path, secret: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, secret.hex().encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        path.hardlink_to(draft)  # unlike a rename, this never replaces what another process has just made
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_open(path: Path) -> None:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        wanted = "700" if path.is_dir() else "600"
        raise SecretFileRefused(f"{path} is open to others (mode {mode:03o}): run chmod {wanted} {path}")
