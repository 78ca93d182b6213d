"""Who is at the other end of a socket, by the text of an IP address: what every limit on peers goes by."""

from __future__ import annotations

import ipaddress


def address_group(address: str) -> str:
    """What limits count as one peer: an IPv4 address, or the /64 a host of IPv6 can choose from."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def is_loopback(address: str) -> bool:
    """Whether the text is an address of this machine's loopback: IPv4, IPv6 or IPv4 in IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
