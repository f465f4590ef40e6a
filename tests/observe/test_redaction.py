"""What a log line never shows (H02, H30)."""

import pytest

from signal_gateway.observe.redaction import VALUE_CHARS_MAX, Redactor

SECRET = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"token was {SECRET}!", "token was ***!"),
        ("GET /ws?api_key=abc123&x=1", "GET /ws?api_key=***&x=1"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("authorization=Basic dXNlcjpwdw==", "authorization=Basic ***"),
        ("subprotocols signal-gateway.v1, bearer.eyJh.eyJi.c2ln", "subprotocols signal-gateway.v1, bearer.***"),
        ("a key sgk_abcdefghijkl_0123456789-_ABC here", "a key sgk_abcdefghijkl_*** here"),
        ('{"auth_token": "hush", "x": 1}', '{"auth_token": "***", "x": 1}'),
        ("jwt eyJhbGciOi.eyJzdWIi.c2ln", "jwt ***"),
        ("x-eyJhbGciOi.eyJzdWIi.c2ln, cut: eyJhbGciOi.eyJz and eyJhbG", "x-***, cut: *** and ***"),
        ("to +436601234567 sent", "to ***67 sent"),
        ("imei 860123456789012", "imei ***12"),
        ("at 2026-11-20T21:00:00Z in 12 s", "at 2026-11-20T21:00:00Z in 12 s"),
        ("uuid 12345678-1234-4234-8234-123456789012", "uuid 12345678-1234-4234-8234-123456789012"),
    ],
)
def test_secrets_and_phone_numbers_are_hidden_wherever_they_stand(said, shown):
    assert Redactor([SECRET]).event({"event": said}) == {"event": shown}


@pytest.mark.parametrize("name", ["api_key", "token", "auth_token", "Authorization", "password", "text", "content"])
def test_the_value_of_a_field_that_is_named_like_a_secret_or_a_text_is_hidden_whole(name):
    assert Redactor().event({name: "x"}) == {name: "***"}


def test_ids_stay_readable_even_where_they_look_like_a_phone_number_but_never_a_secret():
    event = Redactor([SECRET]).event({"device_id": "860123456789012", "client_id": SECRET})
    assert event == {"device_id": "860123456789012", "client_id": "***"}


def test_line_breaks_and_control_characters_of_a_peer_are_escaped():
    event = Redactor().event({"reason": "a\r\nb\x1b[31m\u2028c\x85d"})
    assert event == {"reason": "a\\r\\nb\\x1b[31m\\u2028c\\x85d"}


def test_nested_values_are_cleaned_and_numbers_stay_numbers():
    event = Redactor([SECRET]).event({"headers": {"authorization": "Bearer x", "n": [SECRET, 7, None, True, 1.5]}})
    assert event == {"headers": {"authorization": "***", "n": ["***", 7, None, True, 1.5]}}


def test_a_long_value_is_cut():
    shown = Redactor().event({"event": "a" * (VALUE_CHARS_MAX + 1)})["event"]
    assert len(shown) == VALUE_CHARS_MAX + 1
    assert shown.endswith("a…")


def test_of_two_secrets_one_inside_of_the_other_nothing_is_left():
    assert Redactor(["staple", SECRET]).text(f"<{SECRET}>") == "<***>"


def test_a_secret_of_three_characters_does_not_blot_out_every_line():
    assert Redactor(["abc"]).text("abc") == "abc"


def test_megabytes_of_hostile_text_are_redacted():
    """No pattern backtracks (H13): one whose work grows with the square of the text would run into the timeout of this test."""
    hostile = ("api_key=" + "1" * 30 + " bearer sgk_a_ eyJ" * 2) * 30_000 + "eyJ-" * 100_000
    assert Redactor().text(hostile).startswith("api_key=*** ")
