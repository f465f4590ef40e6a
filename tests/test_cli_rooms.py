"""`signal-gateway rooms export`: the archive as JSON lines."""

import json
from pathlib import Path

import pytest
import trio

from signal_gateway.cli import main
from signal_gateway.cli_start import database_open
from signal_gateway.config import Config
from signal_gateway.websocket.server_settings import ServerSettings
from tests.storage.test_rooms import AT, keep, room_of

DAY = 86_400_000


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of two rooms, made two days apart."""

    async def fill() -> None:
        async with database_open(Config(server=ServerSettings(data_dir=str(tmp_path / "data")))) as database:
            for number in range(2):
                await keep(database, room_of(f"r-{number}", AT + number * 2 * DAY, "cam"))

    monkeypatch.chdir(tmp_path)
    trio.run(fill)


def lines(capsys: pytest.CaptureFixture[str], *options: str) -> list[tuple[str, str]]:
    assert main(["rooms", "export", *options]) == 0
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(each["collection"], each["document"].get("room_id") or each["document"]["room_uuid"]) for each in read]


@pytest.mark.slow
@pytest.mark.usefixtures("kept")
def test_rooms_are_exported_as_json_lines(capsys: pytest.CaptureFixture[str]):
    of_a_room = ["room_created", "webrtc_rooms", "webrtc_clients", "client_in_room"]
    assert lines(capsys, "--clients") == [(name, f"r-{number}") for number in range(2) for name in of_a_room]


@pytest.mark.slow
@pytest.mark.usefixtures("kept")
def test_of_a_time_only_the_rooms_that_were_made_in_it(capsys: pytest.CaptureFixture[str]):
    assert {room for _, room in lines(capsys, "--from", "2026-01-02")} == {"r-1"}
    assert {room for _, room in lines(capsys, "--to", "2026-01-02T00:00:00Z")} == {"r-0"}


@pytest.mark.slow
@pytest.mark.usefixtures("kept")
def test_of_a_session_a_client_or_a_time_of_ending_only_their_rooms(capsys: pytest.CaptureFixture[str]):
    assert {room for _, room in lines(capsys, "--client", "cam")} == {"r-0", "r-1"}
    for options in (("--client", "nobody"), ("--session", "none"), ("--ended-from", "2026-01-01"), ("--ended-to", "2027-01-01")):
        assert lines(capsys, *options) == []  # both rooms are open


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert main(["rooms", "export", "--from", "yesterday"]) == 2
    assert capsys.readouterr().err.startswith("error: --from is a day")
    assert not (tmp_path / "data").exists()
