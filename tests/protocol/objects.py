"""Objects in JSON as a hostile peer might write them."""

import json
from typing import Any


def written(pairs: list[tuple[str, Any]], is_ascii: bool) -> bytes:
    """An object in which a key may stand twice."""
    return ("{" + ",".join(f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=is_ascii)}" for key, value in pairs) + "}").encode()
