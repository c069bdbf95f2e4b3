"""Names that stand for others: the same for the same original and key, and of no use without the key."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

_ROOT: Final = "2.25."


def derived_key(key: bytes, purpose: str) -> bytes:
    """Return the key for one purpose, 32 bytes, so that no two purposes share one."""
    return hmac.new(key, f"recond {purpose}".encode(), hashlib.sha256).digest()


class Pseudonyms:
    """Replaces identifiers under the key of a site.

    Parameters
    ----------
    key
        Of the site, 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = derived_key(key, "pseudonyms")

    def uid(self, original: str) -> str:
        """Return a UID in place of another: ``2.25.`` and a UUID of version 8 as a number (DICOM PS3.5 B.2)."""
        raw = bytearray(self._hash("uid", original.strip().rstrip("\0"))[:16])
        raw[6] = raw[6] & 0x0F | 0x80
        raw[8] = raw[8] & 0x3F | 0x80
        return _ROOT + str(int.from_bytes(raw))

    def token(self, original: str) -> str:
        """Return 16 hexadecimal digits in place of a name."""
        return self._hash("token", original.strip())[:8].hex()

    def number(self, original: int) -> int:
        """Return a number of 32 bits in place of another."""
        return int.from_bytes(self._hash("number", str(original))[:4])

    def _hash(self, kind: str, original: str) -> bytes:
        return hmac.new(self._key, f"{kind}:{original}".encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
