"""`python -m drills.schemas`: Postmark's API at a running `serve`, judged by its own OpenAPI document.

schemathesis reads the document and makes requests that fit it, and others that do not. Whatever is sent, the
answer must be one the document has: its status, its content type, its schema; and none may be a failure of
ours. Paths get the names of things that exist in half of them, so that they come past the first look.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

DOCUMENT = "/servers/openapi"
SENDER = "shop@example.com"
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
Known = Callable[[str], dict[str, str]]


@dataclass(frozen=True)
class Judged:
    """What was answered, by status, and what should not have been."""

    seen: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def judge(
    document: Mapping[str, Any],  # Any: a JSON document
    url: str,
    headers: Mapping[str, str],
    known: Known,
    *,
    examples: int,
    random_seed: int | None = None,
) -> Judged:
    """Make `examples` requests of either kind for each call, the same ones each time but with a seed.

    known: for a path, values of its parameters that name something which is there.
    """
    schema = schemathesis.openapi.from_dict(_without_keys(document))
    judged = Judged()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        here = known(operation.path)
        for mode in GenerationMode:
            parameters = here if mode is GenerationMode.POSITIVE else {}
            strategy = operation.as_strategy(mode, path_parameters=parameters or None)

            def ask(case: Case[Any]) -> None:
                response = case.call(base_url=url, headers=dict(headers))
                judged.seen[response.status_code] += 1
                case.validate_response(response, checks=_CHECKS)

            bounds = settings(
                max_examples=examples,
                derandomize=random_seed is None,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            run = given(case=strategy)(bounds(ask))
            if random_seed is not None:
                run = seed(random_seed)(run)
            try:
                run()
            except Unsatisfiable:
                continue  # a call that takes nothing has nothing that could be wrong
            except (FailureGroup, AssertionError) as error:
                judged.problems.append(f"{operation.label}, {mode}: {_told(error)}")
    return judged


def _without_keys(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as if nobody needed a token: every request then carries ours, none a made-up one."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    copy.pop("security", None)
    copy["components"].pop("securitySchemes", None)
    for calls in copy["paths"].values():
        for one in calls.values():
            one.pop("security", None)
    return copy


def _told(error: BaseException) -> str:
    whole = getattr(error, "exceptions", (error,))
    return "; ".join(str(one)[:1000] for one in whole) + "\n" + "\n".join(getattr(error, "__notes__", ()))


def known_of(url: str, headers: Mapping[str, str], server_id: int, sender: str) -> Known:
    """Something that is there for each parameter of a path; of most it is made just now."""

    def ask(path: str, body: Mapping[str, object] | None = None) -> Any:  # Any: JSON
        content = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url + path, content, dict(headers))) as response:
            return json.loads(response.read())

    mail = {"From": sender, "To": "ann@example.net", "Subject": "x", "TextBody": "y"}
    ids = {
        "/messages": ask("/email", mail)["MessageID"],
        "/templates": ask("/templates", {"Name": "x", "Subject": "x", "TextBody": "y"})["TemplateId"],
        "/triggers": ask("/triggers/inboundrules", {"Rule": "known.example"})["ID"],
    }
    ask("/email", {**mail, "To": "HardBounce@bounce-testing.postmarkapp.com"})
    ids["/bounces"] = ask("/bounces?count=1&offset=0")["Bounces"][0]["ID"]

    def known(path: str) -> dict[str, str]:
        number = next((one for start, one in ids.items() if path.startswith(start)), server_id)
        every = {"stream": "broadcast", **dict.fromkeys(("id", "message", "template", "bulk"), str(number))}
        return {name: value for name, value in every.items() if f"{{{name}}}" in path}

    return known


def document_of(url: str, token: str) -> Any:  # Any: YAML
    """The document, as a client reads it."""
    request = urllib.request.Request(url + DOCUMENT, headers={"X-Postmark-Server-Token": token})
    with urllib.request.urlopen(request, timeout=30) as response:
        return yaml.safe_load(response.read())


def main(arguments: Sequence[str] | None = None) -> int:
    """Start `serve`, ask it, judge it."""
    from tests.support.serve import serving

    parser = argparse.ArgumentParser(prog="drills.schemas", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    given_ones = parser.parse_args(arguments)
    environment = {"POSTROOM_API_RATE_PER_MINUTE": "0", "POSTROOM_DIAL_PRIVATE": "none"}
    folder = Path(tempfile.mkdtemp(prefix="schemas-"))
    with serving(folder / "data", environment=environment) as serve:
        made = serve.ask("bootstrap", sender=SENDER)
        serve.ask("account.update", account=1, may_delete_servers=False)  # it must outlive what is asked
        headers = {
            "X-Postmark-Server-Token": made["server_key"],
            "X-Postmark-Account-Token": made["account_key"],
        }
        judged = judge(
            document_of(serve.url, made["server_key"]),
            serve.url,
            headers,
            known_of(serve.url, headers, 1, SENDER),
            examples=given_ones.examples,
            random_seed=given_ones.seed,
        )
        if "Traceback" in serve.log.read_text():
            judged.problems.append(f"a traceback in {serve.log}")
    print(f"{sum(judged.seen.values())} answers: {dict(sorted(judged.seen.items()))}")
    print("\n".join(["FAILED:", *judged.problems] if judged.problems else ["ok"]))
    return 1 if judged.problems else 0


if __name__ == "__main__":
    sys.exit(main())
