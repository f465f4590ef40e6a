"""The configuration in words: `config.toml` and `docs/configuration.md`, written from the classes that define it.

    python -m signal_gateway.config_text config.toml docs/configuration.md

writes both anew; the tests compare them, so that neither can tell anything but what the code does.
"""

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from signal_gateway.config import SECRETS, Config, fields_of, sections
from signal_gateway.config_safety import DEMO_API_KEYS, DEMO_ENROLMENT_KEYS, WITHOUT_EFFECT
from signal_gateway.config_sources import ENVIRONMENT_PREFIX
from signal_gateway.config_values import describe

COMMENT_COLUMNS = 118
SHIPPED: Mapping[str, tuple[str, ...]] = {"auth.api_keys": DEMO_API_KEYS, "auth.enrolment_keys": DEMO_ENROLMENT_KEYS}
"""Where the shipped file differs from the defaults, on purpose: demo credentials, refused beyond loopback."""

TOML_HEAD = """\
# Settings of the signal gateway: every key there is, with its default; but auth.api_keys and auth.enrolment_keys, which are none by
# default, name demo credentials here, for a first try on this machine alone.
# An environment variable stands above this file: SIGNAL_GATEWAY_SECTION__KEY=value, or SIGNAL_GATEWAY_SECTION__KEY_FILE=path to read
# a secret from a file. `signal-gateway check-config --config config.toml` says what is wrong, before a start does.
"""

MARKDOWN_HEAD = """\
# Configuration

One TOML file, `--config FILE`, every key of which has a default; without the option `config.toml` of the working directory is
read, if there is one. `signal-gateway check-config` says what is wrong with it, every problem at once.
Unknown sections and keys are errors, with the nearest known name:

<!-- runs -->
```console
$ SIGNAL_GATEWAY_SERVER__PROT=9000 signal-gateway check-config
error: SIGNAL_GATEWAY_SERVER__PROT: names no setting; did you mean SIGNAL_GATEWAY_SERVER__PORT?
```

## Environment

- `SIGNAL_GATEWAY_SECTION__KEY` (two underscores) stands above the file: `SIGNAL_GATEWAY_SERVER__PORT=9000`. Lists are
  `a, b` or `["a", "b"]`, switches `true` or `false`. A name that is no setting is an error, but for what Kubernetes sets for a
  Service called `signal-gateway`.
- `SIGNAL_GATEWAY_SECTION__KEY_FILE` names a file whose content is the value, without the line break at its end: for secrets.
- `SIGNAL_MANAGER_SECTION_KEY` (one underscore) is read too; the names above win.

## What refuses to start

A listener that is not on loopback, or stands behind `server.trusted_proxies`, is reached by others. Then each of these is refused,
with a sentence that says what to set, unless `server.insecure = true`:

- the demo credentials of the shipped file, in `auth.api_keys` and `auth.enrolment_keys`;
- an `auth.token_secret` that is printed in an example or has less than 32 characters (an empty one is made on first start, in
  `<data_dir>/secrets/token_secret`, mode 0600), and configured keys with less than 16 characters of secret;
- `"*"` in `security.allowed_origins`;
- plain `ws://` beyond loopback, when no trusted proxy speaks TLS in front.

`metrics.host` counts for nothing here: nobody signs in there. Still, show it only to networks that you trust.

## Keys
"""


def toml_text() -> str:
    """The shipped `config.toml`."""
    parts = [TOML_HEAD]
    for name, section in sections().items():
        parts.append("\n".join([*_comment(section_doc(section)), f"[{name}]"]))
        docs = field_docs(section)
        for key, default in defaults_of(name).items():
            value = SHIPPED.get(f"{name}.{key}", default)
            parts.append("\n".join([*_comment(docs[key]), f"{key} = {toml_value(value)}"]))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def markdown_text() -> str:
    """`docs/configuration.md`."""
    parts = [MARKDOWN_HEAD.rstrip("\n")]
    for name, section in sections().items():
        docs, fields = field_docs(section), fields_of(section)
        rows = ["| key | default | wants | why |", "|---|---|---|---|"]
        for key, default in defaults_of(name).items():
            wants = describe(f"{name}.{key}", fields[key].type).replace("|", "\\|")
            rows.append(f"| `{key}` | `{toml_value(default)}` | {wants} | {' '.join(docs[key].split()).replace('|', chr(92) + '|')} |")
        parts.append("\n".join([f"### [{name}]", "", section_doc(section), "", *rows]))
    lines = [f"- `{name}`: {why}." for name, why in WITHOUT_EFFECT.items()]
    parts.append(
        "\n".join(["## Known and without effect", "", "Accepted; a value other than the default is told at the start.", "", *lines])
    )
    secrets = [f"- `{name}`: `{ENVIRONMENT_PREFIX}{name.replace('.', '__').upper()}_FILE` ({why})." for name, why in SECRETS.items()]
    parts.append(
        "\n".join(["## Secrets", "", "Never shown in a log, an error or a repr. Better kept in files of their own:", "", *secrets])
    )
    return "\n\n".join(parts) + "\n"


def defaults_of(section: str) -> dict[str, Any]:
    """The default of every key of a section."""
    return cast("dict[str, Any]", msgspec.to_builtins(getattr(Config(), section)))


def section_doc(section: type[msgspec.Struct]) -> str:
    """What a section is for: the first paragraph of its class, on one line."""
    return " ".join(inspect.cleandoc(section.__doc__ or "").partition("\n\n")[0].split())


def field_docs(section: type[msgspec.Struct]) -> dict[str, str]:
    """Why each key is there: the text that stands below its definition. Raises ValueError for a key without one."""
    body = cast("ast.ClassDef", ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]).body
    docs: dict[str, str] = {}
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            is_text = (
                isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant) and isinstance(following.value.value, str)
            )
            if is_text:
                docs[statement.target.id] = " ".join(str(cast("Any", following).value.value).split())
    missing = fields_of(section).keys() - docs.keys()
    if missing:
        raise ValueError(f"{section.__name__}: no text says why {', '.join(sorted(missing))} is there")
    return docs


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in cast('list[Any]', value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, COMMENT_COLUMNS, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    for target, content in zip(sys.argv[1:], (toml_text(), markdown_text()), strict=True):
        Path(target).write_text(content)
