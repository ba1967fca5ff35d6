"""Schemathesis asks a running hub whatever its OpenAPI document allows, and some more.

`tests/run` installs its program `st` in a folder of its own. Without it the test is skipped.
"""

import shutil
import subprocess

import pytest

from tests.support.hub_process import HubProcess

PROGRAM = shutil.which("st")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)
# Polls wait, and draining or tracing the node changes what the others ask.
LEFT_OUT = ["/poll", "/sse", "/ws", "/api/nodes/{node}/drain", "/api/debug/memory"]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(PROGRAM is None, reason="schemathesis is not installed")
def test_answers_are_what_the_document_says() -> None:
    with HubProcess(HUB_HISTORY_SIZE="10") as hub:
        left_out = [word for path in LEFT_OUT for word in ("--exclude-path", path)]
        url = f"{hub.url}/api/openapi.json"
        done = subprocess.run(
            [
                str(PROGRAM), "run", url, "--checks", CHECKS, "--max-examples", "10",
                "--phases", "examples,coverage,fuzzing", "--no-color", *left_out,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=170,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:]
