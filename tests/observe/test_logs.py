"""Lines are structured, bounded, rotated, and never hold the loop."""

import io
import json
import logging
import logging.handlers
import queue
import re
import sys

import pytest
import structlog

from signal_gateway.observe import logs
from signal_gateway.observe.logs import LOG_FILE, LoggingSettings, logger, logging_running, set_level
from signal_gateway.observe.metrics import Metrics


def lines_of(data_dir):
    return [json.loads(line) for line in (data_dir / LOG_FILE).read_text().splitlines()]


def quiet(**changes):
    return LoggingSettings(console_output=False, **changes)


def test_a_line_has_time_level_category_event_and_its_fields(tmp_path):
    with logging_running(quiet(), tmp_path, Metrics()):
        logger("websocket").info("link opened", device_id="phone-1", links=3)
    (line,) = lines_of(tmp_path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {"level": "info", "category": "websocket", "event": "link opened", "device_id": "phone-1", "links": 3}


def test_a_logger_made_before_the_start_writes_as_the_start_says(tmp_path):
    log = logger("sms")
    with logging_running(quiet(level="error"), tmp_path, Metrics()):
        log.warning("not written")
        log.error("written")
    assert [line["event"] for line in lines_of(tmp_path)] == ["written"]


def test_the_level_can_change_while_it_runs(tmp_path):
    log = logger("server")
    with logging_running(quiet(), tmp_path, Metrics()):
        log.debug("one")
        set_level("debug")
        log.debug("two")
        set_level("warning")
        log.info("three")
    assert [line["event"] for line in lines_of(tmp_path)] == ["two"]


def test_configured_secrets_and_keys_by_their_form_are_not_written_even_in_tracebacks(tmp_path):
    with logging_running(quiet(), tmp_path, Metrics(), secrets=["hush-hush-hush"]):
        try:
            raise ValueError("hush-hush-hush and sgk_abcdefghijkl_verysecret")
        except ValueError:
            logger("auth").exception("failed for hush-hush-hush", api_key="k")
    text = (tmp_path / LOG_FILE).read_text()
    assert "hush-hush-hush" not in text
    assert "verysecret" not in text
    assert json.loads(text)["exception"].endswith("ValueError: *** and sgk_abcdefghijkl_***")


def test_lines_of_libraries_take_the_same_way(tmp_path):
    with logging_running(quiet(), tmp_path, Metrics(), secrets=["hush-hush-hush"]):
        logging.getLogger("some.library").warning("says %s\nand more", "hush-hush-hush")
        logging.getLogger("some.library").debug("not this")
    (line,) = lines_of(tmp_path)
    assert (line["category"], line["logger"], line["event"]) == ("library", "some.library", "says ***\\nand more")


def test_a_full_queue_drops_lines_and_counts_them_but_never_waits(tmp_path, monkeypatch):
    metrics = Metrics()
    monkeypatch.setattr(logs._Listener, "start", lambda self: None)  # a disk that takes nothing
    monkeypatch.setattr(logs._Listener, "stop", lambda self: None)
    with logging_running(quiet(queue_max=2), tmp_path, metrics):
        for number in range(5):
            logger("server").info("line", number=number)
        assert b"signal_gateway_log_lines_waiting 2.0" in metrics.text()
    assert metrics.limits.value("logging.queue_max") == 3


def test_the_end_writes_what_waits_even_from_a_full_queue(tmp_path):
    with logging_running(quiet(queue_max=3), tmp_path, Metrics()):
        for _ in range(200):
            logger("server").info("line")
    written = len(lines_of(tmp_path))
    assert written >= 3


def test_files_rotate_by_size_and_the_oldest_goes(tmp_path):
    with logging_running(quiet(max_file_size=4096, max_files=3), tmp_path, Metrics()):
        for number in range(100):
            logger("server").info("a line of some length", number=number, filler="x" * 100)
    files = sorted(path.name for path in (tmp_path / LOG_FILE).parent.iterdir())
    assert files == ["gateway.log", "gateway.log.1", "gateway.log.2"]
    assert all(path.stat().st_size <= 4096 for path in (tmp_path / LOG_FILE).parent.iterdir())
    assert lines_of(tmp_path)[-1]["number"] == 99


def test_console_lines_go_to_stderr_and_a_traceback_cannot_pass_for_a_line(tmp_path, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with logging_running(LoggingSettings(format="console"), tmp_path, Metrics()):
        try:
            raise ValueError("a\n2026-01-01T00:00:00Z INFO    auth      accepted\x1b[0m")
        except ValueError:
            logger("server").exception("failed", name="a\nb")
    first, *rest = stderr.getvalue().splitlines()
    assert re.search(r"Z ERROR   server    failed name='a\\\\nb'$", first)
    assert rest[-1] == "  | 2026-01-01T00:00:00Z INFO    auth      accepted\\x1b[0m"
    assert all(line.startswith("  | ") for line in rest)


def test_refused_accepts_are_told_once_in_ten_seconds_without_traceback(tmp_path):
    """Out of file descriptors, Trio writes ten tracebacks a second (H16)."""
    metrics, now = Metrics(), [0.0]
    accepting = logging.getLogger("trio.serve_listeners")
    with logging_running(quiet(), tmp_path, metrics, clock=lambda: now[0]):
        for tenth in range(151):
            now[0] = tenth / 10
            accepting.error("accept returned %s (%s); retrying in %s seconds", "EMFILE", "24", 0.1, exc_info=OSError(24, "x"))
    first, second = lines_of(tmp_path)
    assert first["event"] == "accept returned EMFILE (24); retrying in 0.1 seconds"
    assert second["event"] == "accept returned EMFILE (24); retrying in 0.1 seconds (99 such lines held back)"
    assert "exception" not in first
    assert metrics.limits.value("process.open_files") == 151


def test_a_disk_that_refuses_a_line_is_counted_and_nobody_is_hurt(tmp_path, monkeypatch):
    metrics = Metrics()

    def refuse(self, record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logging.handlers.RotatingFileHandler, "shouldRollover", refuse)
    with logging_running(quiet(), tmp_path, metrics):
        logger("server").info("one")
    assert metrics.errors.value("log_file") == 1


def test_the_end_restores_what_was_before(tmp_path):
    before, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    with logging_running(quiet(), tmp_path, Metrics()):
        assert structlog.get_config() != before
    assert structlog.get_config() == before
    assert logging.getLogger().handlers == handlers
    assert logging.getLogger("trio.serve_listeners").filters == []


def test_before_the_start_warnings_go_to_stderr_and_nothing_to_stdout(capsys):
    logger("server").info("quiet")
    logger("server").warning("loud")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.rstrip().endswith("WARNING server    loud")


def test_a_log_folder_that_cannot_be_made_is_an_error_of_the_start(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(OSError, match="logs"), logging_running(quiet(), tmp_path, Metrics()):
        pass


def test_the_sentinel_of_the_listener_waits_for_room_in_the_queue():
    lines: queue.Queue[logging.LogRecord | None] = queue.Queue(1)
    listener = logs._Listener(lines)
    lines.put(logs._record("waits"))
    listener.start()
    listener.stop()
    assert lines.empty()


def test_a_listener_hears_lines_of_info_and_above_and_says_which_warnings_go_on(tmp_path):
    heard: list[tuple[str, str, int]] = []

    def listen(level: str, fields: logs.Fields) -> bool:
        heard.append((level, fields["event"], fields["n"]))
        return fields["n"] != 3

    log = logger("websocket")
    with logging_running(quiet(), tmp_path, Metrics()):
        with logs.lines_told_to(listen):
            log.debug("a", n=0)
            log.info("b", n=1)
            log.warning("c", n=2)
            log.error("d", n=3)
        log.info("e", n=4)
    assert heard == [("info", "b", 1), ("warning", "c", 2), ("error", "d", 3)]
    assert [line["event"] for line in lines_of(tmp_path)] == ["c", "e"]


def test_a_logger_that_was_used_follows_what_is_configured_later(tmp_path, capsys):
    log = logger("server")
    log.info("quiet")
    log.warning("loud")
    with logging_running(quiet(), tmp_path, Metrics()):
        log.info("written")
        set_level("error")
        log.warning("left out")
    log.info("quiet again")
    log.warning("loud again")
    assert [line["event"] for line in lines_of(tmp_path)] == ["written"]
    assert [line.split("server")[-1].strip() for line in capsys.readouterr().err.splitlines()] == ["loud", "loud again"]
