"""Commands on pages do what the page says when they are pasted."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.serve import serving

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's lines are curl's")
def test_the_lines_about_broadcasts_api(tmp_path: Path) -> None:
    page = (DOCS / "broadcast.md").read_text("utf-8")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[:2])
    with serving(tmp_path / "data", "--inbox", "127.0.0.1:0") as serve:
        keys = serve.ask("bootstrap", sender="shop@example.com")
        inbox = re.search(r"inbox takes SMTP on (\S+):(\d+)", serve.text)
        assert inbox is not None
        for ours, theirs in (
            ("http://127.0.0.1:8080", serve.url),
            ("prs_...", keys["server_key"]),
            ("smtp.example.com", inbox[1]),
            ("587", inbox[2]),
        ):
            assert ours in script
            script = script.replace(ours, theirs)
        # Twice: nothing in it depends on what is there already.
        done = [
            subprocess.run(
                ["bash", "-euc", script], capture_output=True, text=True, timeout=30, check=True
            ).stdout
            for _ in range(2)
        ]
    for number, out in enumerate(done, 1):
        assert f"email server {number}\n" in out
        assert '"success":true' in out
        assert f"message {number}\n" in out
        assert '"recipient_email":"ann@example.com"' in out
        assert '"suppressed":true' in out
        assert '"removed":true' in out
