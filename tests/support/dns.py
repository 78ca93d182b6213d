"""A world's DNS that a test writes itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from postroom.core.dkim import DkimKey
from postroom.errors import Unavailable


@dataclass
class FakeDns:
    """TXT records by name. `silent`: it does not answer."""

    records: dict[str, list[bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    silent: bool = False

    async def txt(self, name: str) -> Sequence[bytes]:
        self.asked.append(name)
        if self.silent:
            raise Unavailable("DNS did not answer")
        return self.records.get(name, [])

    def publish(self, key: DkimKey) -> None:
        """Put a key's record where it belongs."""
        self.records[key.record_name] = [key.record_value.encode("ascii")]
