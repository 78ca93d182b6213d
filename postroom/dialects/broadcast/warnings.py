"""Remarks in a successful answer: `warnings: [{code, param, message}]`. Values sent in stay unsaid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MOST = 20
MOST_PARAM_CHARACTERS = 100


@dataclass
class Warnings:
    """What one request is to be told."""

    _told: list[dict[str, str]] = field(default_factory=list)

    def add(self, code: str, param: str, message: str) -> None:
        """One remark; after 20 no more are kept."""
        if len(self._told) < MOST:
            self._told.append({"code": code, "param": param[:MOST_PARAM_CHARACTERS], "message": message})

    def unrecognized(self, params: Iterable[str]) -> None:
        """Parameters nobody knows."""
        for param in params:
            self.add("unrecognized_parameter", param, "This parameter is not known and was ignored")

    def ignored(self, param: str, why: str) -> None:
        """A known parameter without effect here; `why` reads after "was ignored: "."""
        self.add("parameter_ignored", param, f"This parameter was ignored: {why}")

    def onto(self, body: dict[str, object]) -> dict[str, object]:
        """`body` with the remarks, if there are any."""
        return {**body, "warnings": self._told} if self._told else body
