"""Asking DNS for TXT records, through the resolvers this machine is set up with.

A name that does not exist and one without such records are the same: none. What was not answered is an error,
never a no.
"""

from __future__ import annotations

from collections.abc import Sequence

from postroom.errors import Unavailable

PATIENCE_S = 10.0


class DnsResolver:
    """Implements `actions.context.Resolver`."""

    def __init__(self, servers: Sequence[str] | None = None, port: int = 53) -> None:
        """servers: addresses of resolvers to ask instead of the machine's."""
        self._servers, self._port = servers, port

    async def txt(self, name: str) -> list[bytes]:
        """The TXT records at `name`, the strings of each joined; none: empty. Raises Unavailable."""
        # Imported here: it takes a while, and few ever ask.
        from dns.asyncresolver import Resolver
        from dns.exception import DNSException
        from dns.resolver import NXDOMAIN, NoAnswer

        try:
            resolver = Resolver(configure=self._servers is None)
            if self._servers is not None:
                resolver.nameservers, resolver.port = list(self._servers), self._port
            answer = await resolver.resolve(f"{name}.", "TXT", lifetime=PATIENCE_S, search=False)
        except (NXDOMAIN, NoAnswer):
            return []
        except (DNSException, OSError) as error:
            text = f"DNS did not answer for {name} ({type(error).__name__}); try again"
            raise Unavailable(text) from error
        return [b"".join(record.strings) for record in answer]
