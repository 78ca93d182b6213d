"""Vendors: what is known of each service mail can go out through, as data.

The rows are in `vendors.toml`, one for each `core.connection.Vendor`, with the vendors' own pages as
their source. They fill in what a new connection leaves out (host, port, user name), say which delivery
methods there are and what each needs, and are shown by `postroom vendor`.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import msgspec

from postroom.core.connection import DeliveryMethod, Vendor

REGION = "{region}"  # stands in a host or URL for the option aws_region


class VendorRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One vendor. Empty text, no list and None all mean: not known, or there is none."""

    title: str
    methods: tuple[DeliveryMethod, ...]
    docs: tuple[str, ...] = ()  # the vendor's own pages that say all this
    smtp_host: str = ""
    smtp_ports: tuple[int, ...] = ()  # STARTTLS; the first is what we take
    smtp_tls_ports: tuple[int, ...] = ()  # TLS from the first byte
    smtp_username: str = ""  # where it is the same for everybody
    password_is_username: bool = False  # the user name is the password once more
    api_url: str = ""
    api_secrets: tuple[str, ...] = ()  # what sending by its API needs
    api_options: tuple[str, ...] = ()
    needs_parts: bool = False  # its API takes a message's parts, not its bytes, and one recipient in To
    finds_messages: bool = False  # its API tells whether it took a message of ours
    rewrites: tuple[str, ...] = ()  # headers that are not what we wrote when the mail arrives
    keeps_signature: bool = False  # the rest is: a DKIM signature of ours that leaves these out holds
    signs: str = ""  # whose DKIM signature it writes
    signs_list_unsubscribe: bool = False  # that signature covers List-Unsubscribe and List-Unsubscribe-Post
    tracks: str = ""
    limits: tuple[str, ...] = ()  # which it tells us by API; obeyed where lower than our own caps
    most_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_api(self) -> bool:
        """Whether we can send by its own API."""
        return DeliveryMethod.API in self.methods

    @property
    def rewritten_names(self) -> frozenset[str]:
        """The names in `rewrites`, in lower case, without remarks: what must not be signed."""
        return frozenset(one.split(" ", 1)[0].lower() for one in self.rewrites)

    @property
    def smtp_port(self) -> int | None:
        """The port a new connection gets."""
        return self.smtp_ports[0] if self.smtp_ports else None

    def host_in(self, region: str) -> str:
        """Its SMTP host; "" where there is none, or none without a region."""
        return _in_region(self.smtp_host, region)

    def api_url_in(self, region: str) -> str:
        """Where its API is; "" as above."""
        return _in_region(self.api_url, region)


def _in_region(pattern: str, region: str) -> str:
    if REGION not in pattern:
        return pattern
    return pattern.replace(REGION, region) if region else ""


@cache
def vendors() -> dict[Vendor, VendorRow]:
    """Every vendor, in the order of the file."""
    with Path(__file__).with_name("vendors.toml").open("rb") as file:
        return msgspec.convert(tomllib.load(file), dict[Vendor, VendorRow])


def vendor_row(vendor: Vendor) -> VendorRow:
    """What is known of this one."""
    return vendors()[vendor]
