"""`signal-gateway frame`: binary frames explained, built and sent, from a terminal."""

import os
import re
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from signal_gateway.cli_errors import CommandFailed
from signal_gateway.cli_options import ConfigOption

if TYPE_CHECKING:
    from protocol.frame_spec import Explanation

FRAME_TEXT_CHARS_MAX = 1_000_000

frames = typer.Typer(help="Binary frames: explain, build, send.", no_args_is_help=True, rich_markup_mode=None)


class Encoding(StrEnum):
    """How a payload is written."""

    JSON = "json"
    CBOR = "cbor"


HexArgument = Annotated[list[str], typer.Argument(metavar="HEX...", help="Bytes in hex; spaces and 0x are fine; - reads them from stdin.")]
TypeArgument = Annotated[str, typer.Argument(metavar="TYPE", help="Name or code: heartbeat, REGISTER, 0x20.")]
JsonOption = Annotated[str, typer.Option("--json", metavar="JSON", help="The payload, as JSON.")]
PayloadOption = Annotated[Encoding, typer.Option("--payload", help="How the payload is written.")]
UuidOption = Annotated[str | None, typer.Option("--uuid", help="The frame's UUID; a random one otherwise.")]


@frames.command()
def inspect(text: HexArgument, config: ConfigOption = None) -> None:
    """Explain a frame field by field. Exits 1 when the frame is faulty."""
    del config  # a frame means the same under every configuration
    from protocol.frame_spec import explain

    explanation = explain(_bytes_of(sys.stdin.read(FRAME_TEXT_CHARS_MAX) if text == ["-"] else " ".join(text)))
    print("\n".join(explanation_lines(explanation)))
    if explanation.is_faulty:
        raise typer.Exit(1)


@frames.command()
def build(
    frame_type: TypeArgument,
    json: JsonOption = "{}",
    payload: PayloadOption = Encoding.JSON,
    uuid: UuidOption = None,
    config: ConfigOption = None,
) -> None:
    """Print a frame in hex."""
    del config
    print(_build(frame_type, json, payload, uuid).hex())


@frames.command()
def send(
    url: Annotated[str, typer.Argument(metavar="URL", help="ws://host:port/ws")],
    frame_type: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="Name or code of a frame to build and send.")] = None,
    json: JsonOption = "{}",
    payload: PayloadOption = Encoding.JSON,
    uuid: UuidOption = None,
    hex_frames: Annotated[
        list[str] | None, typer.Option("--hex", metavar="HEX", help="A frame in hex, sent as it is; more than once is fine.")
    ] = None,
    headers: Annotated[list[str] | None, typer.Option("--header", metavar="NAME:VALUE", help="A header of the upgrade.")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long to wait for each answer.")] = 5.0,
    config: ConfigOption = None,
) -> None:
    """Send frames on one link, those of --hex first, and print what comes back. Exits 1 when an answer is an ERROR or is missing."""
    del config
    questions = [_bytes_of(text) for text in hex_frames or []]
    if frame_type is not None:
        questions.append(_build(frame_type, json, payload, uuid))
    if not questions:
        raise CommandFailed("there is nothing to send: name a TYPE, or give --hex")
    import trio

    if not trio.run(_converse, url, _headers_of(headers or []), questions, seconds):
        raise typer.Exit(1)


async def _converse(url: str, headers: dict[str, str], questions: list[bytes], seconds: float) -> bool:
    """Send all, print what comes back; whether there was an answer for each, and none refused."""
    import trio

    from signal_gateway.testing.client import LinkClosed, open_client

    try:
        async with open_client(url, headers, deadline_s=max(seconds, 1.0)) as client:
            is_fine = True
            try:
                for question in questions:
                    await client.send(question)
                for _ in questions:
                    is_fine &= _show_answer(await client.receive(seconds))
            except LinkClosed as closed:
                print(closed)
                return False
            except trio.TooSlowError:
                print(f"no answer within {seconds:g} s")
                return False
            return is_fine
    except ValueError as error:
        raise CommandFailed(str(error)) from None


def _show_answer(answer: bytes | str) -> bool:
    """Print it; whether it is one that refuses nothing."""
    from protocol.frame_spec import explain

    if isinstance(answer, str):
        print("text message\n  " + _printable(answer))
        return True
    explanation = explain(answer)
    print("\n".join(explanation_lines(explanation)))
    return not explanation.is_faulty and not _refuses(answer)


def _refuses(frame: bytes) -> bool:
    """Whether an answer says no: each that may has a `status` like that of HTTP (CONTRACT.md §2)."""
    from protocol.errors import WireError
    from protocol.frame import decode_frame
    from protocol.payload import read_payload

    answer = decode_frame(frame)
    try:
        status = read_payload(answer.payload_kind, answer.payload).get("status")
    except WireError:  # of a kind that is no object
        return False
    return isinstance(status, int) and status >= 400


def explanation_lines(explanation: "Explanation") -> list[str]:
    """An explanation as a table: offset, length, bytes, field, meaning; then the payload and the faults."""
    rows = [(f"{field.offset}", f"{field.length}", field.hex, field.name, field.meaning) for field in explanation.fields]
    head = ("offset", "bytes", "hex", "field", "meaning")
    widths = [min(52, max(len(row[column]) for row in (head, *rows))) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]
    lines += ["", "payload", *(f"  {line}" for line in explanation.payload.splitlines() or [""])]
    if explanation.faults:
        lines += ["", "faults", *(f"  {fault}" for fault in explanation.faults)]
    return lines


def _build(frame_type: str, json: str, payload: Encoding, uuid: str | None) -> bytes:
    from protocol.errors import WireError
    from protocol.frame import encode_frame
    from protocol.payload import PayloadKind, read_json, write_payload

    kind = PayloadKind[payload.name]
    try:
        identity = UUID(uuid).bytes if uuid else _random_uuid()
    except ValueError:
        raise CommandFailed(f"{uuid!r} is no UUID") from None
    code = _type_code(frame_type)
    try:
        return encode_frame(code, identity, kind, write_payload(kind, read_json(json.encode("utf-8", "surrogateescape"))))
    except WireError as error:
        raise CommandFailed(f"--json: {error.message} ({error.reason})") from None


def _random_uuid() -> bytes:
    return UUID(bytes=os.urandom(16), version=4).bytes


def _type_code(text: str) -> int:
    from protocol.frame import FrameType

    name = text.upper().replace("-", "_")
    if name in FrameType.__members__:
        return FrameType[name].value
    try:
        code = FrameType(int(text, 0)).value
    except ValueError:
        import difflib

        near = difflib.get_close_matches(name, FrameType.__members__, n=1)
        raise CommandFailed(f"{text!r} is no frame type" + (f"; did you mean {near[0]}?" if near else "")) from None
    return code


def _bytes_of(text: str) -> bytes:
    digits = re.sub(r"0[xX]|\\x|[\s:,]", "", text)
    try:
        return bytes.fromhex(digits)
    except ValueError:
        if not (odd := re.search(r"[^0-9a-fA-F]", digits)):
            raise CommandFailed(f"{len(digits)} hex digits are not whole bytes") from None
        raise CommandFailed(f"{odd.group()!r} is no hex digit") from None


def _headers_of(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise CommandFailed("--header wants NAME:VALUE")
        headers[name.strip()] = value.strip()
    return headers


def _printable(text: str) -> str:
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)
