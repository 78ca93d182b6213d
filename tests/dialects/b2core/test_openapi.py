"""The OpenAPI document, and that the dialect is only a dialect."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from postroom.dialects import b2core, broadcast
from tests.dialects.b2core.conftest import GOOD
from tests.dialects.house import House

WRITTEN = Path(b2core.__file__).parent


async def test_the_document_describes_every_call(house: House) -> None:
    answer = await house.call("GET", "/openapi")
    document = yaml.safe_load(answer.text)
    schemas = document["components"]["schemas"]
    used = set(re.findall(r"#/components/schemas/(\w+)", answer.text))
    assert used == set(schemas)
    assert schemas["ProviderRequest"]["required"] == [name for name in GOOD if name != "caption"]
    assert document["servers"] == [{"url": "http://post.example/api/v2/mail"}]
    described = {(method.upper(), path) for path, calls in document["paths"].items() for method in calls}
    assert described == {
        ("GET", "/providers"),
        ("POST", "/providers"),
        ("GET", "/providers/{id}"),
        ("PATCH", "/providers/{id}"),
        ("DELETE", "/providers/{id}"),
        ("GET", "/providers/{id}/status"),
        ("GET", "/providers/openapi"),
    }


async def test_below_its_prefix_too(house: House) -> None:
    headers = {"Authorization": f"Bearer {house.server_key}"}
    answer = await house.http.get("/b2core/api/v2/mail/providers/", headers=headers)
    assert (answer.status_code, answer.json()) == (200, [])
    unknown = await house.http.get("/api/v2/mail/providers/1/what", headers=headers)
    assert (unknown.status_code, unknown.json()) == (404, {"message": "Not found", "errors": {}})
    wrong = await house.http.put("/api/v2/mail/providers", headers=headers)
    assert (wrong.status_code, wrong.json()["message"]) == (405, "Method not allowed")


def test_same_file_names_as_the_first_dialect_and_no_engine() -> None:
    names = {path.name for path in WRITTEN.glob("*.py")}
    first = {path.name for path in Path(broadcast.__file__).parent.glob("*.py")}
    assert names - first == {"texts.py"}  # the languages
    for path in WRITTEN.glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) postroom\.(\w+)", path.read_text("utf-8"), re.MULTILINE)
        assert not {"engine", "storage", "inbound", "wiring"}.intersection(imported), path
