"""Allowed webhook targets, against server-side request forgery: checks of the URL and of resolved addresses.

Both are needed: after the check of the URL, its DNS name may be pointed at 169.254.169.254. So the sender checks every
address that it resolved and connects to one of these, not to the name.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from nightshift.errors import InvalidRequest

if TYPE_CHECKING:
    import httpx

MAX_URL = 2000
#: Allowed ports below 1024; others belong to system services.
_WELL_KNOWN = frozenset({80, 443})
#: Cloud services for their own hosts at addresses that look public: Azure's agent, Oracle's metadata.
_METADATA = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
#: NAT64 addresses: the last 32 bits are the IPv4 address.
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


def check_url(text: str, *, allow_private: bool) -> str:
    """Return the normalized URL. Raises InvalidRequest at `url`. The sender, not this function, resolves names."""
    url = _parsed(text)
    if url.scheme not in ("https", "http"):
        raise _bad("must begin with https://")
    if url.scheme == "http" and not allow_private:
        raise _bad("must begin with https:// (http:// requires NIGHTSHIFT_WEBHOOKS_ALLOW_PRIVATE=true)")
    if not url.host:
        raise _bad("has no host")
    if url.userinfo:
        raise _bad("must not contain a user or password; verify the signature instead")
    if url.fragment:
        raise _bad("must not have a fragment (#); fragments are never sent")
    port = url.port
    if port is not None and not allow_private and port < 1024 and port not in _WELL_KNOWN:
        raise _bad(f"must not have port {port}: use 443, 80 or one above 1023")
    reason = None if allow_private else refused_host(url.host)
    if reason:
        raise _bad(reason)
    return str(url)


def _parsed(text: str) -> httpx.URL:
    if len(text) > MAX_URL:
        raise _bad(f"is longer than {MAX_URL} characters")
    if not text.isprintable() or text != text.strip() or " " in text or "\\" in text:
        raise _bad("must not contain white space, backslashes or control characters")
    import httpx  # large, and other processes than the API only check hosts and addresses

    try:
        url = httpx.URL(text)
        if url.port is not None and not 0 < url.port <= 65_535:
            raise ValueError
    except (httpx.InvalidURL, ValueError, UnicodeError):
        raise _bad("must be a URL such as https://example.com/hook") from None
    return url


def _bad(message: str) -> InvalidRequest:
    return InvalidRequest.field(("url",), message)


def refused_host(host: str) -> str | None:
    """Return why a host is refused by its text: a private address, or a name of this machine; else None."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "points to the server itself; NIGHTSHIFT_WEBHOOKS_ALLOW_PRIVATE=true would allow it"
    address = _literal(name)
    return None if address is None else refused_address(address)


def _literal(name: str) -> Address | None:
    """Parse a literal address, also as `127.1`, `2130706433` or `0x7f.1`; return None for a name."""
    try:
        return ip_address(name)
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(name))
        except OSError:
            return None


def refused_address(address: Address) -> str | None:
    """Return why an address is refused, or None if it is public."""
    if isinstance(address, IPv6Address) and address in _NAT64:
        address = IPv4Address(int(address) & 0xFFFF_FFFF)
    if all(map(_is_public, (address, *_embedded(address)))):
        return None
    return f"{address} is not a public address; NIGHTSHIFT_WEBHOOKS_ALLOW_PRIVATE=true would allow it"


def _is_public(address: Address) -> bool:
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    if isinstance(address, IPv6Address):
        return address.is_global and not (special or address.is_site_local)
    return address.is_global and not (special or any(address in network for network in _METADATA))


def _embedded(address: Address) -> list[IPv4Address]:
    """Return the IPv4 addresses embedded in an IPv6 one, to which its packets may be routed."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    return [inner for inner in found if inner is not None]
