"""Logs of the gateway: structured lines, written by a thread of their own so that a slow disk never holds the loop (DESIGN.md §10).

A call renders its line, without secrets, and puts it into a bounded queue; a listener thread writes it to stderr and to
`<data_dir>/logs/gateway.log`. When the queue is full the line is dropped and counted: the gateway rather loses a line than time.
"""

import json
import logging
import logging.handlers
import queue
import sys
import time
from collections.abc import Callable, Generator, Iterable, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
import structlog

from signal_gateway.observe.metrics import Metrics
from signal_gateway.observe.redaction import Redactor

LOG_FILE = Path("logs") / "gateway.log"
"""Where the lines go, below `server.data_dir`."""
ACCEPT_LINES_INTERVAL_S = 10.0
"""Seconds between two lines about connections that could not be accepted; Trio alone writes ten a second, with tracebacks (H16)."""
TALKATIVE = ("alembic.runtime.migration", "httpx2", "httpcore2")
"""Libraries that have a line at info for each thing that they do: their warnings are enough, and what matters of it we tell ourselves."""
STOP_SECONDS_MAX = 5.0
"""Seconds that the end of the process waits for room in a full queue."""

Level = Literal["debug", "info", "warning", "error"]
Fields = MutableMapping[str, Any]


class LoggingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged, how and where."""

    level: Level = "info"
    """The least level that is written: "debug", "info", "warning" or "error". SIGHUP reads it again."""
    format: Literal["json", "console"] = "json"
    """"json" for machines, one object a line; "console" for people."""
    console_output: bool = True
    """Whether lines go to stderr, beside the log file."""
    max_file_size: Annotated[int, msgspec.Meta(ge=4096)] = 10_485_760
    """Bytes of a log file; then the next one is begun."""
    max_files: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 5
    """Log files that are kept, the current one included."""
    queue_max: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """Lines that may wait for the disk; more are dropped and counted."""


class _Logger:
    """structlog's logger of this moment, bound once. Its own proxy binds one for each call: ten times a line that is not written."""

    def __init__(self, category: str) -> None:
        self._category = category

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = self.__dict__[name] = getattr(structlog.get_logger(category=self._category).bind(), name)
        return method

    def forget(self) -> None:
        """Logging is configured otherwise from now on."""
        self.__dict__ = {"_category": self._category}


_loggers: list[_Logger] = []


def logger(category: str) -> Any:
    """A logger whose lines carry `category`: websocket, sms, device, alarm (T-55), auth, storage or server.

    A module may make one when it is imported: it follows each change of what is configured here.
    """
    made = _Logger(category)
    _loggers.append(made)
    return made


def _configure(**changes: Any) -> None:
    structlog.configure(**changes)
    for each in _loggers:
        each.forget()


def _made_by(written_to: object) -> Callable[..., object]:
    """A factory of structlog: everything goes to this one."""
    return lambda *_names: written_to


def set_level(level: Level) -> None:
    """From now on, write lines of this level and above (SIGHUP)."""
    number = logging.getLevelNamesMapping()[level.upper()]
    _configure(wrapper_class=structlog.make_filtering_bound_logger(number))
    logging.getLogger().setLevel(max(number, logging.INFO))  # libraries' debug lines are about them, not about us
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


@contextmanager
def logging_running(
    settings: LoggingSettings, data_dir: Path, metrics: Metrics, secrets: Iterable[str] = (), clock: Callable[[], float] = time.monotonic
) -> Generator[None]:
    """Write logs while the context lasts; at its end everything that waits is written. Raises OSError when the log file cannot be opened.

    `secrets` are the configured ones, never shown in whatever field they turn up. Lines of libraries take the same way.
    """
    path = data_dir / LOG_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _LogFile(path, maxBytes=settings.max_file_size, backupCount=settings.max_files - 1, encoding="utf-8")
    file.metrics = metrics
    handlers: list[logging.Handler] = [file, *([logging.StreamHandler(sys.stderr)] if settings.console_output else [])]
    lines: queue.Queue[logging.LogRecord | None] = queue.Queue(settings.queue_max)
    metrics.gauge("log_lines_waiting", "Log lines that wait for the disk.", lines.qsize)
    listener = _Listener(lines, *handlers)
    handler = _Queue(lines, metrics, Redactor(secrets), settings.format)
    accept_filter = _AcceptFilter(metrics, clock)
    root, accepting = logging.getLogger(), logging.getLogger("trio.serve_listeners")
    before, levels_before = structlog.get_config(), {each: each.level for each in (root, *map(logging.getLogger, TALKATIVE))}
    listener.start()
    _configure(processors=handler.processors, logger_factory=_made_by(handler), cache_logger_on_first_use=False)
    set_level(settings.level)
    root.addHandler(handler)
    accepting.addFilter(accept_filter)
    try:
        yield
    finally:
        accepting.removeFilter(accept_filter)
        root.removeHandler(handler)
        for each, level in levels_before.items():
            each.setLevel(level)
        _configure(**before)
        listener.stop()
        for each in handlers:
            each.flush()
        file.close()


@contextmanager
def lines_told_to(listener: Callable[[str, Fields], bool]) -> Generator[None]:
    """Tell `listener` each of our lines of info and above, level and fields, before it is rendered: a simulated world keeps its history so.

    A line of warning or worse goes where it went before, too, if `listener` returns True.
    """

    def tell(_logger: Any, level: str, fields: Fields) -> Fields:
        if listener(level, fields) and level not in ("debug", "info"):
            return fields
        raise structlog.DropEvent

    before = structlog.get_config()
    _configure(processors=[tell, *before["processors"]], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        yield
    finally:
        _configure(**before)


class _Queue(logging.handlers.QueueHandler):
    """The way of every line into the queue: ours as a structlog logger, those of libraries as a handler of the root logger."""

    def __init__(self, lines: queue.Queue[logging.LogRecord | None], metrics: Metrics, redactor: Redactor, form: str) -> None:
        super().__init__(lines)
        self._metrics = metrics
        self.processors = _processors(redactor, _render_json if form == "json" else _render_console)

    def __getattr__(self, name: str) -> Callable[[str], None]:
        """What structlog calls in the end: a method named like the level, with the rendered line."""
        if name not in ("debug", "info", "warning", "error", "critical", "msg"):
            raise AttributeError(name)
        return self._put_line

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A library's line, in our form."""
        fields: Fields = {"event": record.getMessage(), "category": "library", "logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        level = record.levelname.lower()
        for processor in self.processors:
            fields = processor(None, level, fields)
        return _record(cast("str", fields))

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never wait: a line too many is dropped and counted."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._metrics.limits.add("logging.queue_max")

    def _put_line(self, line: str) -> None:
        self.enqueue(_record(line))


class _Listener(logging.handlers.QueueListener):
    """The thread that writes."""

    def __init__(self, lines: queue.Queue[logging.LogRecord | None], *handlers: logging.Handler) -> None:
        super().__init__(lines, *handlers)
        self._lines = lines

    def enqueue_sentinel(self) -> None:
        """Wait for room: the standard library's own raises when the queue is full."""
        self._lines.put(None, timeout=STOP_SECONDS_MAX)


class _LogFile(logging.handlers.RotatingFileHandler):
    """The current log file. A disk that refuses a line is counted; the gateway goes on."""

    metrics: Metrics

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (named by the standard library)
        self.metrics.errors.add("log_file")


class _AcceptFilter(logging.Filter):
    """Lets one line through in ACCEPT_LINES_INTERVAL_S, without its traceback, and counts them all (H16)."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        super().__init__()
        self._metrics = metrics
        self._clock = clock
        self._next_at = float("-inf")
        self._held_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written."""
        self._metrics.limits.add("process.open_files")
        now = self._clock()
        if now < self._next_at:
            self._held_back += 1
            return False
        record.msg = f"{record.getMessage()} ({self._held_back} such lines held back)" if self._held_back else record.getMessage()
        record.args, record.exc_info = None, None
        self._next_at, self._held_back = now + ACCEPT_LINES_INTERVAL_S, 0
        return True


def _processors(redactor: Redactor, render: Callable[[Fields], str]) -> list[Any]:
    """What happens to a line between the call and its text, in order."""

    def redact(_logger: Any, _name: str, fields: Fields) -> Fields:
        return redactor.event(fields)

    def finish(_logger: Any, _name: str, fields: Fields) -> str:
        return render(fields)

    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
        finish,
    ]


def _record(line: str) -> logging.LogRecord:
    return logging.LogRecord("signal_gateway", logging.INFO, "", 0, line, None, None)


def _render_json(fields: Fields) -> str:
    first = {name: fields.pop(name) for name in ("timestamp", "level", "category", "event") if name in fields}
    return json.dumps(first | dict(fields), ensure_ascii=False, separators=(",", ":"))


def _render_console(fields: Fields) -> str:
    """`time LEVEL category event name=value…`; a traceback follows in lines that begin with a bar: none can pass for another line."""
    exception = fields.pop("exception", None)
    head = f"{fields.pop('timestamp')} {fields.pop('level').upper():7} {fields.pop('category', '-'):9} {fields.pop('event')}"
    line = " ".join([head, *(f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}" for name, value in fields.items())])
    if exception is None:
        return line
    return "\n".join([line, *(f"  | {_without_controls(part)}" for part in str(exception).splitlines())])


def _without_controls(text: str) -> str:
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


class _Stderr:
    """Where lines go while nothing else is configured: what is stderr at that moment."""

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    debug = info = warning = error = critical = msg = _print


def _write_to_stderr_alone() -> None:
    """Before and after `logging_running`: warnings and worse, on stderr. stdout belongs to what a command was asked for."""
    _configure(
        processors=_processors(Redactor(), _render_console),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=_made_by(_Stderr()),
        cache_logger_on_first_use=False,
    )


_write_to_stderr_alone()
