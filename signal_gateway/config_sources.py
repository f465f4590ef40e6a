"""Where settings come from: a TOML file, and environment variables that stand above it (C-59).

Reads texts and names, knows nothing of what a setting means. A source gives `Given` values by section and key; whatever is wrong is
one readable line, and all lines are told at once.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT_PREFIX = "SIGNAL_GATEWAY_"
SEED_PREFIX = "SIGNAL_MANAGER_"
FILE_SUFFIX = "_FILE"
SECRET_FILE_BYTES_MAX = 65_536

_SET_BY_KUBERNETES = re.compile(r"SIGNAL_GATEWAY_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")
"""What Kubernetes sets in every container beside a Service called signal-gateway: not meant for us, and no mistake of anybody."""

Known = Mapping[str, Collection[str]]
"""The names of all keys, by section."""


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one sentence for each thing to mend."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Given:
    """One value that somebody set. `is_text`: it came as text, and is read as the type of its setting wants it."""

    value: Any
    origin: str
    """As a person names it: the file, or the environment variable."""
    is_text: bool = False


Settings = dict[tuple[str, str], Given]
"""What is set, by section and key."""


def read_file(path: Path, known: Known) -> tuple[Settings, list[str]]:
    """The values of a TOML file, and what is wrong with its names. Raises ConfigError when there is no file, or it is not TOML."""
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    settings: Settings = {}
    problems: list[str] = []
    for section, content in document.items():
        if section not in known:
            problems.append(f"{path}: {_unknown_section(section, content, known)}")
            continue
        if not isinstance(content, dict):
            problems.append(f"{path}: {section} is a section: write [{section}]")
            continue
        for key, value in content.items():
            if key in known[section]:
                settings[section, key] = Given(value, str(path))
            else:
                problems.append(f"{path}: {section}.{key} is no setting{_nearest(key, section, known)}")
    return settings, problems


def read_environment(environ: Mapping[str, str], known: Known) -> tuple[Settings, list[str]]:
    """The values of `SIGNAL_GATEWAY_SECTION__KEY`, of `…_FILE`, and of the seed's `SIGNAL_MANAGER_SECTION_KEY` (S-51)."""
    settings: Settings = {}
    problems: list[str] = []
    for name in sorted(environ, key=lambda name: (not name.startswith(SEED_PREFIX), name)):  # ours stand above the seed's
        if not name.startswith((ENVIRONMENT_PREFIX, SEED_PREFIX)) or _SET_BY_KUBERNETES.fullmatch(name):
            continue
        found = _find(name, known)
        if found is None:
            problems.append(f"{name}: {_unknown_variable(name, known)}")
            continue
        setting, is_file = found
        if setting in settings and settings[setting].origin.startswith(ENVIRONMENT_PREFIX) and name.startswith(ENVIRONMENT_PREFIX):
            problems.append(f"{name}: {settings[setting].origin} sets {'.'.join(setting)} already")
            continue
        try:
            value = _read_secret(Path(environ[name])) if is_file else environ[name]
        except ConfigError as error:
            problems.append(f"{name}: {error}")
            continue
        settings[setting] = Given(value, name, is_text=True)
    return settings, problems


def _find(name: str, known: Known) -> tuple[tuple[str, str], bool] | None:
    """The setting that a variable names, and whether its value is the name of a file."""
    for is_file in (False, True):
        if is_file and not name.endswith(FILE_SUFFIX):
            continue
        rest = name.removesuffix(FILE_SUFFIX) if is_file else name
        if rest.startswith(SEED_PREFIX):
            section, _, key = rest.removeprefix(SEED_PREFIX).lower().partition("_")
        else:
            section, _, key = rest.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if key in known.get(section, ()):
            return (section, key), is_file
    return None


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_FILE_BYTES_MAX + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path} is not text"]) from None
    if len(content) > SECRET_FILE_BYTES_MAX:
        raise ConfigError([f"{path} has more than {SECRET_FILE_BYTES_MAX} bytes"])
    return text.rstrip("\r\n")


def _unknown_section(section: str, content: Any, known: Known) -> str:
    if section == "firestore":
        return "[firestore] is not used here: the database is set in [storage]"
    if not isinstance(content, dict):
        homes = [home for home, keys in known.items() if section in keys]
        return f"{section} stands outside of any section" + (f": it belongs into [{homes[0]}]" if homes else "")
    return f"[{section}] is no section{_did_you_mean(section, known)}"


def _unknown_variable(name: str, known: Known) -> str:
    prefix, divider = (SEED_PREFIX, "_") if name.startswith(SEED_PREFIX) else (ENVIRONMENT_PREFIX, "__")
    rest = name.removeprefix(prefix)
    if rest.lower().startswith("firestore"):
        return "[firestore] is not used here: the database is set in [storage]"
    names = [f"{section}{divider}{key}".upper() for section, keys in known.items() for key in keys]
    near = difflib.get_close_matches(rest, names, n=1)
    return f"names no setting; did you mean {prefix}{near[0]}?" if near else f"names no setting ({prefix}SECTION{divider}KEY)"


def _nearest(key: str, section: str, known: Known) -> str:
    """The nearest key: of the same section, or the same name in another."""
    for other, keys in known.items():
        if other != section and key in keys:
            return f"; did you mean {other}.{key}?"
    near = _did_you_mean(key, known[section])
    return near.replace("mean ", f"mean {section}.", 1)


def _did_you_mean(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
