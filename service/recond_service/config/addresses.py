"""Addresses and shares of clients as people write them."""

from __future__ import annotations

import ipaddress


def split_address(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPV6]:PORT``.

    Parameters
    ----------
    address
        What to split. Port 0 means any free port.

    Returns
    -------
    The host without brackets, and the port.

    Raises
    ------
    ValueError
        If it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host != bare
    if not colon or not bare or not port.isdecimal() or int(port) > 65535 or (":" in bare and not bracketed):
        msg = f"{address!r} is not HOST:PORT (write an IPv6 address in brackets: [::1]:50051)"
        raise ValueError(msg)
    return bare, int(port)


def read_weights(text: str) -> dict[str, float]:
    """Return the weights of clients by name from ``NAME=WEIGHT[,NAME=WEIGHT...]``.

    Raises
    ------
    ValueError
        If an entry is not of that form, or a weight not positive.
    """
    weights = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = entry.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not name or not 0 < weight < float("inf"):
            msg = f"{entry!r} is not NAME=WEIGHT with a weight above 0"
            raise ValueError(msg)
        weights[name] = weight
    return weights


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
