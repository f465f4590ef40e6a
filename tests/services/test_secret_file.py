"""Secrets that the gateway makes for itself."""

from pathlib import Path

import pytest

from signal_gateway.services.secret_file import SecretFileRefused, read_or_make_secret


def test_the_first_start_makes_a_secret_that_nobody_else_can_read_and_later_starts_find_it(tmp_path: Path):
    path = tmp_path / "data" / "secrets" / "pepper"

    secret = read_or_make_secret(path)

    assert len(secret) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert read_or_make_secret(path) == secret
    assert [found.name for found in path.parent.iterdir()] == ["pepper"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_open_to_others_is_refused_with_the_cure(tmp_path: Path, mode: int):
    path = tmp_path / "secrets" / "pepper"
    secret = read_or_make_secret(path)
    path.chmod(mode)

    with pytest.raises(SecretFileRefused, match="chmod 600") as caught:
        read_or_make_secret(path)
    assert secret.hex() not in str(caught.value)


def test_a_folder_open_to_others_is_refused_with_the_cure(tmp_path: Path):
    path = tmp_path / "secrets" / "pepper"
    read_or_make_secret(path)
    path.parent.chmod(0o755)

    with pytest.raises(SecretFileRefused, match="chmod 700"):
        read_or_make_secret(path)


@pytest.mark.parametrize("content", ["", "not hex", "abcd"])
def test_a_damaged_secret_is_refused_rather_than_replaced(tmp_path: Path, content: str):
    path = tmp_path / "secrets" / "pepper"
    read_or_make_secret(path)
    path.write_text(content)

    with pytest.raises(SecretFileRefused, match="restore it"):
        read_or_make_secret(path)
    assert path.read_text() == content


def test_of_two_processes_that_start_at_once_the_first_secret_holds(tmp_path: Path):
    path = tmp_path / "secrets" / "pepper"
    firsts: list[bytes] = []

    def other_process_meanwhile(count: int) -> bytes:
        firsts.append(read_or_make_secret(path, lambda count: b"1" * count))
        return b"2" * count

    assert read_or_make_secret(path, other_process_meanwhile) == firsts[0] == b"1" * 32
