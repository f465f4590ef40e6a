"""The OpenAPI document tells the truth: schemathesis calls every route of the server, with data that fits and data that does not (H31).

What a rule refuses that no schema can say - a number that is none, a code that is not allowed - is answered 400: that is expected, too.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import command, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EXAMPLES = 2
MORE = """
max_failed_per_id_per_minute = 0
[security]
max_failed_auth_per_ip_per_minute = 0
[feed]
wait_s_max = 0.05
"""
RULES = """
[checks.negative_data_rejection]
expected-statuses = ["207", "400", "401", "403", "404", "406", "409", "413", "422", "428", "5xx"]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "410", "422", "429", "503", "507"]
"""


def test_schemathesis_finds_no_failure_and_no_500(tmp_path: Path):
    with running(tmp_path, more=MORE) as server:
        base = server._find(r"http://127\.0\.0\.1:\d+/api").removesuffix("/api")
        token = command(tmp_path, "token", "issue", "--subject", "boss", "--role", "admin").stdout.splitlines()[-1]
        (tmp_path / "schemathesis.toml").write_text(RULES)
        program = str(Path(sys.executable).with_name("schemathesis"))
        arguments = ["--config-file", "schemathesis.toml", "run", f"{base}/openapi.json", "-H", f"Authorization: Bearer {token}"]
        arguments += ["--max-examples", str(EXAMPLES), "--checks", "all", "--generation-deterministic", "--no-color"]
        arguments += ["--phases", "coverage,fuzzing"]
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert server.metric('signal_gateway_errors_total{border="api"}') == 0
