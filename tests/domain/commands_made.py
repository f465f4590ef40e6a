"""Commands and answers for tests."""

from typing import Any

from signal_gateway.domain.command import Command, CommandKind, CommandState
from signal_gateway.domain.command_answers import Answer, Outcome

AT = 1_767_225_600_000


def command(**changes: Any) -> Command:
    """An SMS that waits for phone-1."""
    values: dict[str, Any] = {
        "id": 1,
        "message_id": "m1",
        "kind": CommandKind.SEND_SMS,
        "state": CommandState.QUEUED,
        "device_id": "phone-1",
        "device_group": None,
        "scope": None,
        "sim_slot": 0,
        "any_device": False,
        "any_sim": False,
        "priority": 0,
        "phone_number": "+905551234567",
        "session_id": None,
        "data": {"phone_number": "+905551234567", "message": "hello"},
        "segments": 1,
        "delivery_report": False,
        "retry_safe": False,
        "attempts": 0,
        "attempts_before": 0,
        "not_before": None,
        "expires_at": AT + 86_400_000,
        "deadline_at": AT + 86_400_000,
        "digest": bytes(32),
        "created_by": "operator",
        "created_at": AT,
    }
    return Command(**{**values, **changes})


def answer(outcome: Outcome, **said: Any) -> Answer:
    """What phone-1 says of an SMS."""
    values: dict[str, Any] = {"device_id": "phone-1", "kinds": frozenset({CommandKind.SEND_SMS}), "outcome": outcome, "at": AT + 5000}
    return Answer(**{**values, **said})
