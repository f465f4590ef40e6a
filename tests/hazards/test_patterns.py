"""What a peer sends costs work in proportion to its length, whatever stands in it (H13). Steps are counted, no time is taken."""

import ast
import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec import Meta

import protocol.dialect as dialect
from protocol.errors import WireError
from protocol.frame import FrameType, PayloadKind, encode_frame
from signal_gateway.observe.redaction import Redactor
from signal_gateway.services.subscriber_ids import SubscriberIds
from signal_gateway.websocket.handshake import describe_phone
from signal_gateway.websocket.request_head import Refused, parse_request
from tests.hazards.pattern_steps import CountedPattern, beginnings_of, characters_of
from tests.hazards.steps import steps_of
from tests.hazards.upgrades import PHONE, head

ROOT = Path(__file__).parent.parent.parent
SEEN_BY_PEERS = {
    "protocol/agent.py": ("Version", "ClientId"),
    "protocol/plain.py": ("_PLAIN_BEAT",),
    "protocol/payload.py": ("_HALF_A_PAIR",),
    "protocol/fields.py": ("Identifier", "IdText", "_AT", "_MISSING"),
    "signal_gateway/domain/credential.py": ("_KEY",),
    "signal_gateway/domain/ids.py": ("_CLIENT_ID",),
    "signal_gateway/domain/phone_number.py": ("SHORT_CODE", "_E164", "_DIALLED"),
    "signal_gateway/domain/ussd.py": ("_CODE", "_CALL_CONTROL", "_SECRET", "_MENU_WORDS", "_NUMBERED", "BALANCE"),
    "signal_gateway/services/command_checks.py": ("_MESSAGE_ID",),
    "signal_gateway/websocket/request_head.py": ("_PLAIN_HEAD", "_PLAIN_PATH"),
    "signal_gateway/observe/redaction.py": ("_SECRET_PATTERNS", "_MAY_BE_SECRET", "_NUMBER"),
}
"""Every pattern that a peer's text may meet, by the file that makes it."""
OTHERS = {
    # Matched by pydantic's engine, which does not backtrack.
    "signal_gateway/api/command_shapes.py": 1,
    "signal_gateway/api/devices.py": 1,
    "signal_gateway/api/reports.py": 1,
    "signal_gateway/api/shapes.py": 2,
    "signal_gateway/api/system.py": 1,
    "signal_gateway/services/tokens.py": 3,  # one class of characters, of tokens whose signature was proved
    "signal_gateway/domain/phone_number.py": 1,  # what is dialled before the numbers of a country: the library's, met by 15 digits at most
    "signal_gateway/cli_frames.py": 2,  # what an operator types
    "signal_gateway/services/sim_rules.py": 1,  # an operator's own, tried on the first 2,000 characters of an answer
    "signal_gateway/services/command_settings.py": 3,  # settings, looked at before the start
    "signal_gateway/config_sources.py": 1,  # names of environment variables
    "signal_gateway/domain/turn.py": 2,  # addresses in the settings
    "signal_gateway/testing/fake_cloudflare.py": 2,  # what a test offers
    "signal_gateway/testing/checker.py": 1,  # what a simulated history says
    "signal_gateway/testing/room_party.py": 1,  # what a simulated history says
    "signal_gateway/testing/transcript.py": 2,  # what a simulated history says
    "signal_gateway/observe/redaction.py": 1,  # the configured secrets, word by word: no repeat in it
}
"""How many patterns a file makes that no peer's text meets, or that cannot backtrack."""
GROWTH_MAX = 12
"""Of the steps, where the text is ten times as long; work that grows with its square would be 100."""


def patterns_of(value: Any) -> Iterator[re.Pattern[Any]]:
    """The patterns in what stands behind a name: compiled, its bound method, a tuple with replacements, or a type of msgspec's."""
    value = getattr(value, "__self__", value)
    if isinstance(value, re.Pattern):
        yield value
    for inner in value if isinstance(value, tuple) else getattr(value, "__metadata__", ()):
        if isinstance(inner, Meta) and inner.pattern is not None:
            yield re.compile(inner.pattern)
        elif isinstance(inner, tuple | re.Pattern):
            yield from patterns_of(inner)


def named_patterns() -> dict[str, re.Pattern[Any]]:
    found: dict[str, re.Pattern[Any]] = {}
    for path, names in SEEN_BY_PEERS.items():
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        for name in names:
            for number, pattern in enumerate(patterns_of(getattr(module, name))):
                found[f"{path}: {name}" + (f"[{number}]" if number else "")] = pattern
    return found


PATTERNS = named_patterns()


def makes_patterns(path: Path) -> int:
    """How often a file hands a pattern to `re` or to msgspec."""
    return sum(
        isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == "re")
            or any(keyword.arg == "pattern" for keyword in node.keywords)
        )
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_every_pattern_of_the_code_is_tried_here_or_meets_no_peer():
    made = {
        path.relative_to(ROOT).as_posix(): count
        for folder in ("protocol", "signal_gateway")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (count := makes_patterns(path))
    }
    tried = dict.fromkeys(SEEN_BY_PEERS, 0)
    for name in PATTERNS:
        tried[name.partition(":")[0]] += 1
    assert {path: tried.get(path, 0) + OTHERS.get(path, 0) for path in {*tried, *OTHERS}} == made


def hostile(pattern: CountedPattern, length: int) -> Iterator[str]:
    """A beginning and a run behind it, and both together again and again, each with an end that fits nothing."""
    for beginning in beginnings_of(pattern):
        for character in characters_of(pattern):
            unit = beginning + character
            yield beginning + character * (length - len(beginning)) + "\x00"
            yield (unit * (length // len(unit) + 1))[:length] + "\x00"


def steps_for(pattern: CountedPattern, text: str) -> int:
    """The most that any way of asking takes: every match from every place, or the one match of the whole."""
    pattern.steps = 0
    pattern.spans(text)
    searching, pattern.steps = pattern.steps, 0
    pattern.matches_all(text)
    return max(searching, pattern.steps)


def worst_growth(compiled: re.Pattern[Any], lengths: tuple[int, int] = (200, 2000)) -> float:
    """How the steps grow where a text is ten times as long, for the three texts that take the most at 60 characters."""
    pattern = CountedPattern(compiled)
    taken = sorted(((steps_for(pattern, text), place) for place, text in enumerate(hostile(pattern, 60))), reverse=True)
    places = {place for _, place in taken[:3]}
    pairs = enumerate(zip(*(hostile(pattern, length) for length in lengths), strict=True))
    return max(steps_for(pattern, longer) / steps_for(pattern, text) for place, (text, longer) in pairs if place in places)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", PATTERNS.values(), ids=PATTERNS.keys())
def test_no_pattern_takes_more_than_its_text_is_long(compiled: re.Pattern[Any]):
    assert worst_growth(compiled) <= GROWTH_MAX


@pytest.mark.parametrize("pattern", [r"\s+x", r"\beyJ[A-Za-z\-]+\.", r"a+b?c", r"<[^>]*>"])
def test_a_pattern_that_backtracks_would_be_seen(pattern: str):
    """For each of these there is a text whose steps grow with its square, and the search finds it."""
    assert worst_growth(re.compile(pattern), (30, 300)) > 3 * GROWTH_MAX


@pytest.mark.slow
@pytest.mark.parametrize("compiled", PATTERNS.values(), ids=PATTERNS.keys())
def test_steps_are_counted_on_the_very_matches_that_python_finds(compiled: re.Pattern[Any]):
    pattern = CountedPattern(compiled)
    is_text = isinstance(compiled.pattern, str)
    for text in {*hostile(pattern, 24), *(beginning + end for beginning in beginnings_of(pattern) for end in ("", "a", "0 x"))}:
        subject: Any = text if is_text else text.encode("latin-1")
        assert pattern.spans(text) == [match.span() for match in compiled.finditer(subject) if match.group()]
        assert pattern.matches_all(text) == (compiled.fullmatch(subject) is not None)


# whole readers: the steps of the interpreter at 1, 10 and 100 times the length


def refused(work: Callable[[], object]) -> Callable[[], None]:
    """The same, whether it ends in a value or a refusal."""

    def run() -> None:
        with suppress(WireError, Refused):
            work()

    return run


def report_of(data: bytes, kind: int | None = None) -> Callable[[], object]:
    if kind is None:
        return lambda: dialect.decode(True, b'{"type":"alarm","data":{"x":' + data + b"}}", "phone")
    payload = b"\xa2\x64type\x65alarm\x64data\xa1\x61x" + data
    return lambda: dialect.decode(False, encode_frame(FrameType.REPORT, bytes(16), kind, payload), "phone")


def array(unit: bytes, count: int) -> bytes:
    return b"[" + b",".join([unit] * count) + b"]"


def keys(count: int) -> bytes:
    return b"{" + b",".join(b'"%d":0' % number for number in range(count)) + b"}"


READERS: dict[str, Callable[[int], Callable[[], object]]] = {
    "JSON arrays": lambda n: report_of(array(b"[]", 40 * n)),
    "JSON objects": lambda n: report_of(array(b"{}", 40 * n)),
    "JSON objects with a key twice": lambda n: report_of(array(b'{"a":1,"a":1}', 40 * n)),
    "JSON objects, a key twice in the last": lambda n: report_of(array(b'{"a":1}', 40 * n)[:-1] + b',{"a":1,"a":1}]'),
    "JSON objects and an escaped colon": lambda n: report_of(array(b'{"a":1}', 40 * n)[:-1] + b',"\\u003a"]'),
    "JSON object of many keys": lambda n: report_of(keys(40 * n)),
    "JSON numbers": lambda n: report_of(array(b"1", 40 * n)),
    "JSON floats": lambda n: report_of(array(b"5e-324", 40 * n)),
    "JSON number of many digits": lambda n: report_of(b"1" * 40 * n),
    "JSON text of escapes": lambda n: report_of(b'"' + b"\\u003a\\\\" * 40 * n + b'"'),
    "JSON text of brackets": lambda n: report_of(b'"' + b"[{:" * 40 * n + b'"'),
    "JSON, nested": lambda n: report_of(array(b"[" * 20 + b"]" * 20, 10 * n)),
    "JSON, too deep": lambda n: report_of(b"[" * 100 * n),
    "CBOR arrays": lambda n: report_of(b"\x9f" + b"\x80" * 40 * n + b"\xff", PayloadKind.CBOR),
    "CBOR maps": lambda n: report_of(b"\x9f" + b"\xa1\x60\x00" * 40 * n + b"\xff", PayloadKind.CBOR),
    "CBOR map of many keys": lambda n: report_of(
        b"\xbf" + b"".join(b"\x65%05d\x00" % number for number in range(20 * n)) + b"\xff", PayloadKind.CBOR
    ),
    "CBOR, too deep": lambda n: report_of(b"\x81" * 60 * n, PayloadKind.CBOR),
    "redaction of numbers": lambda n: lambda: Redactor(["hush-hush"]).event({"x": "1234567 " * 40 * n}),
    "redaction of tokens": lambda n: lambda: Redactor(["hush-hush"]).event({"x": "eyJ-" * 40 * n}),
    "redaction of subscriber ids": lambda n: lambda: SubscriberIds(b"p").redact_data({"x": [{"imei": "1"}] * 40 * n}),
    "request of many fields": lambda n: lambda: parse_request(head(*[b"X: y"] * 10 * n), b"", 64),
    "request of one name": lambda n: lambda: parse_request(head(*[b"X: y"] * min(60, 10 * n)), b"", 64),
    "request with a long query": lambda n: lambda: parse_request(head(target=b"/ws?" + b"a=%41&" * 20 * n), b"", 64),
    "device of many keys": lambda n: (
        lambda: describe_phone(
            parse_request(head(PHONE[0], b"Device-Info: " + json.dumps({str(key): key for key in range(20 * n)}).encode()), b"", 64)
        )
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_no_reader_takes_more_steps_than_its_input_is_long(reader: Callable[[int], Callable[[], object]]):
    for times in (1, 10):
        refused(reader(times))()  # fills caches
    steps = [steps_of(refused(reader(times))) for times in (1, 10, 100)]
    assert steps[1] <= GROWTH_MAX * steps[0]
    assert steps[2] <= GROWTH_MAX * steps[1]


def test_a_reader_whose_work_grows_with_the_square_would_be_seen():
    def compare_all(count: int) -> Callable[[], object]:
        items: Iterable[int] = range(count)
        return lambda: [None for one in items for other in items if one == other]

    steps = [steps_of(compare_all(count)) for count in (10, 100)]
    assert steps[1] > GROWTH_MAX * steps[0]
