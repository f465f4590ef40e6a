"""Which exceptions are an operator's business, and the sentences in which they are told."""

from collections.abc import Iterable


class CommandFailed(Exception):
    """A command cannot do what it was asked. Each argument is a sentence."""

    def __init__(self, *said: str) -> None:
        super().__init__("\n".join(said))
        self.said = said


def sentences(error: BaseException) -> list[str] | None:
    """What to tell of `error`, a line each; None when it is a fault of ours.

    Trio gathers what several tasks raised in groups: such a group is told when all of it can be.
    """
    if isinstance(error, BaseExceptionGroup):
        said = [sentences(each) for each in error.exceptions]  # pyright: ignore[reportUnknownVariableType]
        known = [part for part in said if part is not None]
        return list(dict.fromkeys(_flat(known))) if len(known) == len(said) else None
    if isinstance(error, CommandFailed):
        return list(error.said)
    if isinstance(error, OSError):
        return [_system_error(error)]
    return str(error).splitlines() or [type(error).__name__] if isinstance(error, _told()) else None


def _told() -> tuple[type[Exception], ...]:
    """The classes whose text is written for people. Imported when one is to be told: an error may take its time."""
    from protocol.errors import WireError
    from signal_gateway.config_sources import ConfigError
    from signal_gateway.domain.errors import GatewayError
    from signal_gateway.services.credentials import KeyConfigurationError
    from signal_gateway.services.secret_file import SecretFileRefused
    from signal_gateway.storage.faults import StorageBroken, StorageUnusable
    from signal_gateway.testing.client import LinkClosed, NoLink
    from signal_gateway.testing.crowd import CrowdRefused

    return (
        *(ConfigError, KeyConfigurationError, SecretFileRefused, StorageUnusable, StorageBroken),
        *(CrowdRefused, GatewayError, LinkClosed, NoLink, WireError),
    )


def _system_error(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename is not None else what


def _flat(lists: Iterable[list[str]]) -> Iterable[str]:
    for each in lists:
        yield from each
