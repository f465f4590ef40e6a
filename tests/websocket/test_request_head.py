"""A plain head is read the short way, and says what h11 says it does; all else h11 reads."""

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signal_gateway.websocket import request_head
from signal_gateway.websocket.request_head import Refused, Request, parse_request, plain_request

HEADERS_MAX = 64
PLAIN = b"GET /ws?api_key=a&api_key=b HTTP/1.1\r\nHost: here:1\r\nX-A: 1\r\nx-a:  2 \r\nEmpty:\r\n\r\n"


def read_by_h11(head: bytes) -> Request | str:
    try:
        return request_head._any_request(head, b"rest")
    except Refused as refused:
        return refused.reason


def read(head: bytes) -> Request | str:
    try:
        return parse_request(head, b"rest", HEADERS_MAX)
    except Refused as refused:
        return refused.reason


names = st.sampled_from(
    [b"Host", b"host", b"X-A", b"x-a", b"Content-Length", b"Transfer-Encoding", b"Expect", b"!#$%&'*+.^_`|~", b"b d", b"", b"\xe9"]
)
odd_values = [b"\xff\x85\xa0", b"\x7f", b"\x01", b"\x00", b"a\rb", b"a\nb", "h\u00e9\u0130".encode()]
values = st.one_of(st.sampled_from([b"", b" ", b"\t1 \t", b"chunked", b"0", b"a, b", b"a: b", *odd_values]), st.binary(max_size=6))
colons = st.sampled_from([b":"] * 5 + [b": ", b" :", b""])
ends = st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r\n ", b"\r\n\t", b"\r", b""])
fields = st.lists(st.builds(lambda *parts: b"".join(parts), names, colons, values, ends), max_size=6)
methods = st.sampled_from([b"GET"] * 4 + [b"HEAD", b"get", b"G-T", b"CONNECT", b"", b"A" * 17])
paths = [b"/ws", b"/", b"//ws", b"/ws/", b"/a//b", b"*", b"/ws#f", b"/\xe9", b""]
queries = [b"/ws?", b"/ws?a=%41;b", b"/ws?a&b=", b"http://h/ws?a=1", b"http://["]
targets = st.one_of(st.sampled_from(paths + queries), st.binary(min_size=1, max_size=6))
versions = st.sampled_from([b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b""])


@given(methods, targets, versions, fields)
def test_whatever_comes_is_read_as_h11_reads_it(method: bytes, target: bytes, version: bytes, of: list[bytes]):
    head = b" ".join((method, target, version)) + b"\r\n" + b"".join(of) + b"\r\n"
    assert read(head) == read_by_h11(head)


@given(st.sampled_from([b"/ws", b"/ws?a=1"]), fields)
@example(b"/ws", [b"X: 1\r\n"])
def test_a_head_that_is_plain_but_for_its_fields_is_read_as_h11_reads_it(target: bytes, of: list[bytes]):
    head = b"GET " + target + b" HTTP/1.1\r\nHost: here\r\n" + b"".join(of) + b"\r\n"
    assert read(head) == read_by_h11(head)


def test_a_plain_head_does_not_trouble_h11(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(h11, "Connection", None)
    request = parse_request(PLAIN, b"rest", HEADERS_MAX)
    assert request == Request("GET", "/ws", {"api_key": "b"}, {"host": "here:1", "x-a": "1, 2", "empty": ""}, b"rest")


@pytest.mark.parametrize(
    "changed",
    [
        PLAIN.replace(b"Host: here:1\r\n", b""),
        PLAIN.replace(b"X-A", b"Host"),
        PLAIN.replace(b"X-A: 1", b"Content-Length: 1"),
        PLAIN.replace(b"X-A: 1", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"X-A: 1", b"X-A: 1\r\n folded"),
        PLAIN.replace(b"\r\n", b"\n"),
        b"\r\n" + PLAIN,
    ],
)
def test_what_h11_knows_more_of_is_not_plain(changed: bytes):
    assert plain_request(PLAIN, b"") is not None
    assert plain_request(changed, b"") is None


def test_a_head_of_a_thousand_fields_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(request_head, "plain_request", None)
    monkeypatch.setattr(request_head, "_any_request", None)
    with pytest.raises(Refused) as caught:
        parse_request(b"GET /ws HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n", b"", HEADERS_MAX)
    assert (caught.value.status, caught.value.reason) == (431, "handshake.headers_max")
