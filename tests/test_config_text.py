"""`config.toml` and `docs/configuration.md` say what the code does, key by key."""

import itertools
import tomllib
from pathlib import Path

import msgspec
import pytest

from signal_gateway.config import Config, fields_of, load_config, sections
from signal_gateway.config_safety import DEMO_API_KEYS, DEMO_ENROLMENT_KEYS, WITHOUT_EFFECT, refusals
from signal_gateway.config_text import SHIPPED, defaults_of, field_docs, markdown_text, toml_text, toml_value

ROOT = Path(__file__).parent.parent


def test_the_shipped_file_has_every_key_with_its_default_and_the_demo_credentials():
    shipped = tomllib.loads((ROOT / "config.toml").read_text())
    expected = {name: defaults_of(name) for name in sections()}
    expected["auth"]["api_keys"] = list(DEMO_API_KEYS)
    expected["auth"]["enrolment_keys"] = list(DEMO_ENROLMENT_KEYS)
    assert msgspec.json.decode(msgspec.json.encode(expected)) == shipped


def test_every_key_of_the_shipped_file_stands_below_a_comment():
    lines = (ROOT / "config.toml").read_text().splitlines()
    bare = [line for above, line in itertools.pairwise(lines) if line and not line.startswith("#") and not above.startswith("#")]
    assert bare == []


@pytest.mark.parametrize(("path", "text"), [("config.toml", toml_text), ("docs/configuration.md", markdown_text)])
def test_the_written_files_are_what_make_docs_would_write(path, text):
    assert (ROOT / path).read_text() == text(), "run `make docs`"


def test_the_shipped_file_loads_starts_on_loopback_and_nowhere_else():
    config = load_config(ROOT / "config.toml", {})
    assert refusals(config) == []
    assert len(refusals(load_config(ROOT / "config.toml", {"SIGNAL_GATEWAY_SERVER__HOST": "0.0.0.0"}))) == 3


@pytest.mark.parametrize("name", sections())
def test_every_setting_says_why_it_is_there(name):
    docs = field_docs(sections()[name])
    assert docs.keys() == fields_of(sections()[name]).keys()
    assert all(len(text) > 5 for text in docs.values())


def test_a_setting_without_a_reason_is_named():
    class Bare(msgspec.Struct):
        with_reason: int = 1
        """Because."""
        without_reason: int = 2

    with pytest.raises(ValueError, match="Bare: no text says why without_reason is there"):
        field_docs(Bare)


def test_keys_named_without_effect_and_keys_that_are_shipped_otherwise_exist():
    known = {f"{name}.{key}" for name, section in sections().items() for key in fields_of(section)}
    assert WITHOUT_EFFECT.keys() <= known
    assert SHIPPED.keys() <= known


@pytest.mark.parametrize("value", ["a", 'quo"te\\', "ü\n", True, False, 0, -3, 1.5, 1e300, (), ("a", 'b"'), ["x"]])
def test_values_are_written_as_toml_reads_them(value):
    read = tomllib.loads(f"value = {toml_value(value)}")["value"]
    assert read == (list(value) if isinstance(value, tuple) else value)
    assert type(read) is type(list(value) if isinstance(value, tuple) else value)


def test_the_document_names_every_section_and_key():
    text = markdown_text()
    for name in sections():
        assert f"### [{name}]\n" in text
    assert text.count("| `port` |") == len([name for name in sections() if "port" in fields_of(sections()[name])])
    assert Config().server.host in text
