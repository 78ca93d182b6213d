"""Which addresses may be dialled: pure rules on host names and IP addresses, no sockets.

Follows the special-purpose registries (RFC 6890, RFC 8190) and the address forms that carry an IPv4
address inside (RFC 4291 2.5.5, RFC 6052, RFC 3056). Odd spellings of an IPv4 address (`127.1`,
`0x7f.1`, `2130706433`) are read the way inet_aton(3) reads them, because that is how a connect would.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import idna

IpAddress = IPv4Address | IPv6Address


class Purpose(StrEnum):
    """What a connection is for; rules differ."""

    SMTP = "smtp"  # a connection of ours: its owner chose the host
    IMAP = "imap"  # a mailbox that is polled
    API = "api"  # a vendor's API: the operator or the connection's owner chose the URL, if not the vendor
    HTTP = "http"  # webhooks, whatever else a URL names


class DialPrivate(StrEnum):
    """Who may reach loopback and private networks: the setting `dial_private`."""

    SMTP = "smtp"  # SMTP connections may, nothing else: a relay beside us is common, a webhook there is not
    NONE = "none"  # nobody
    ALL = "all"  # everybody; link-local and metadata addresses stay closed


class AddressKind(StrEnum):
    """What an address belongs to."""

    PUBLIC = "public"
    PRIVATE = "private"  # also shared (100.64/10), documentation and whatever else is not global
    LOOPBACK = "loopback"
    NEVER = "never"  # link-local, metadata services, multicast, unspecified, broadcast, reserved


class NotAHost(ValueError):
    """The text is no host name and no IP address."""


_NEVER_4 = tuple(
    IPv4Network(net)
    for net in (
        "0.0.0.0/8",  # "this network"; 0.0.0.0 connects to ourselves
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
        "100.100.100.200/32",  # Alibaba's metadata
        "192.0.0.192/32",  # Oracle's metadata
        "168.63.129.16/32",  # Azure's host agent, a public address that is none
    )
)
_NEVER_6 = tuple(
    IPv6Network(net)
    for net in (
        "::/128",
        "fe80::/10",  # link-local
        "ff00::/8",  # multicast
        "fd00:ec2::/32",  # Amazon's metadata, time and name service
        "fd20:ce::/32",  # Google's metadata
        "fd00:42::42/128",  # Scaleway's metadata
        "64:ff9b:1::/48",  # local NAT64 (RFC 8215): where the IPv4 address lies in it is the site's secret
        "2001::/32",  # Teredo: the inner address is hidden and nobody mails through it
        "100::/64",  # discard only
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_GLOBAL_UNICAST = IPv6Network("2000::/3")

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")


def kind_of(address: IpAddress) -> AddressKind:
    """What `address` belongs to; forms with an IPv4 address inside count as that address.

    A translated or tunnelled IPv4 address (64:ff9b::/96, 2002::/16) that is not public is NEVER:
    RFC 6052 3.1 forbids it, and such a packet leaves the machine although it says loopback.
    """
    if isinstance(address, IPv4Address):
        return _kind_of_4(address)
    number = int(address)
    if address == IPv6Address("::1"):
        return AddressKind.LOOPBACK
    if any(address in net for net in _NEVER_6) or address.scope_id is not None:
        return AddressKind.NEVER
    if address in _MAPPED:
        return _kind_of_4(IPv4Address(number & 0xFFFFFFFF))
    inner: IPv4Address | None = None
    if address in _NAT64 or address in _COMPATIBLE:
        inner = IPv4Address(number & 0xFFFFFFFF)
    elif address in _SIX_TO_FOUR:
        inner = IPv4Address((number >> 80) & 0xFFFFFFFF)
    if inner is not None:
        return AddressKind.PUBLIC if _kind_of_4(inner) is AddressKind.PUBLIC else AddressKind.NEVER
    if address in _GLOBAL_UNICAST and address.is_global:
        return AddressKind.PUBLIC
    return AddressKind.PRIVATE


def _kind_of_4(address: IPv4Address) -> AddressKind:
    if any(address in net for net in _NEVER_4):
        return AddressKind.NEVER
    if address.is_loopback:
        return AddressKind.LOOPBACK
    return AddressKind.PUBLIC if address.is_global else AddressKind.PRIVATE


def may_dial(kind: AddressKind, purpose: Purpose, dial_private: DialPrivate) -> bool:
    """Whether an address of this kind may be dialled for this purpose under this setting."""
    if kind is AddressKind.PUBLIC:
        return True
    if kind is AddressKind.NEVER:
        return False
    return dial_private is DialPrivate.ALL or (dial_private is DialPrivate.SMTP and purpose is Purpose.SMTP)


def read_host(host: str) -> str | IpAddress:
    """A host as typed -> an address if it spells one in any way, else its ASCII name (A-labels).

    One trailing dot is kept on a name (it means: no search list). Raises NotAHost for everything that
    is neither: user names, ports, paths, spaces, control characters, zone ids, more than 253 characters.
    """
    if not host or len(host) > 255:
        raise NotAHost("a host has 1 to 253 characters")
    if not host.isascii():
        host = _to_ascii(host)
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1])
    if ":" in host:
        return _ipv6(host)
    bare = host[:-1] if host.endswith(".") else host
    if len(bare) > 253 or not _NAME.fullmatch(bare) or ".." in bare:
        raise NotAHost("not a host name")
    if _NUMBER.fullmatch(bare.rsplit(".", 1)[-1]):
        # A name that ends in a number is an address or nothing; a resolver must never be asked.
        try:
            return IPv4Address(socket.inet_aton(bare))
        except OSError as error:
            raise NotAHost("not an address") from error
    return host


def _to_ascii(host: str) -> str:
    # Full stops of other scripts count as dots (RFC 3490 3.1), full-width digits as digits.
    plain = unicodedata.normalize("NFKC", host).replace("。", ".")
    if plain.isascii():
        return plain
    try:
        return idna.encode(plain, uts46=True).decode("ascii")
    except UnicodeError as error:
        raise NotAHost("not a host name") from error


def _ipv6(text: str) -> IPv6Address:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise NotAHost("not an IPv6 address") from error
    if not isinstance(address, IPv6Address):
        raise NotAHost("not an IPv6 address")
    return address
