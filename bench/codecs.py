"""What reading and writing one message costs.

Each line is the best of several rounds, since the least disturbed round tells most about the code. Compare lines of one run only.
"""

import json
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns

import cbor2
import msgspec

from bench.load import Figures
from bench.messages import PHONE_HEARTBEAT, PHONE_HEARTBEAT_BYTES, UUID, padded
from protocol.frame import FrameType, PayloadKind, decode_frame, encode_frame
from protocol.frame_spec import build_frame, explain, parse_frame
from protocol.payload import read_cbor, read_json, write_cbor, write_json

ROUND_MS = 25
ROUNDS = 7


def best_ns(work: Callable[[], object]) -> float:
    """Nanoseconds of one call, in the best round."""
    calls = 1
    while (elapsed := _round_ns(work, calls)) < ROUND_MS * 1_000_000:
        calls = max(calls * 2, int(calls * ROUND_MS * 1_000_000 / (elapsed + 1)))
    return min(_round_ns(work, calls) for _ in range(ROUNDS)) / calls


def _round_ns(work: Callable[[], object], calls: int) -> int:
    started_at = perf_counter_ns()
    for _ in range(calls):
        work()
    return perf_counter_ns() - started_at


def cases() -> dict[str, Callable[[], object]]:
    """What is measured, by the name it is printed under."""
    text = padded(PHONE_HEARTBEAT, PHONE_HEARTBEAT_BYTES)
    colons = text.replace(b'"note":"x', b'"note":":')
    spaces = json.dumps(json.loads(text)).encode()
    escapes = text.replace(b'"note":"xxxxxx', b'"note":"\\u003a')
    value = json.loads(text)
    item = write_cbor(value)
    frame = encode_frame(FrameType.REPORT, UUID, PayloadKind.JSON, text)
    return {
        "frame: decode_frame": lambda: decode_frame(frame),
        "frame: Construct parse": lambda: parse_frame(frame),
        "frame: encode_frame": lambda: encode_frame(FrameType.REPORT, UUID, PayloadKind.JSON, text),
        "frame: Construct build": lambda: build_frame(FrameType.REPORT, UUID, PayloadKind.JSON, text),
        "frame: explain": lambda: explain(frame),
        "JSON: read_json": lambda: read_json(text),
        "JSON: read_json, a colon in a string": lambda: read_json(colons),
        "JSON: read_json, written with spaces": lambda: read_json(spaces),
        "JSON: read_json, an escaped colon": lambda: read_json(escapes),
        "JSON: msgspec alone": lambda: msgspec.json.decode(text),
        "JSON: standard library": lambda: json.loads(text),
        "JSON: write_json": lambda: write_json(value),
        "CBOR: read_cbor": lambda: read_cbor(item),
        "CBOR: cbor2 alone": lambda: cbor2.loads(item),
        "CBOR: write_cbor": lambda: write_cbor(value),
    }


def measured(work: Callable[[], object], seconds: float) -> Figures:
    """One line; the length of a window is not asked of it."""
    return {"cpu_us": best_ns(work) / 1000}


CASES: dict[str, Callable[[float], Figures]] = {name: partial(measured, work) for name, work in cases().items()}
