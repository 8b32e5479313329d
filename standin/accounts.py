"""Who asks: the account that a test key belongs to."""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import lru_cache

from standin.errors import ApiError, unauthorized

# a real key's first sixteen characters after its prefix name the account, so a rolled key keeps its account
_ACCOUNT_PART = 16
_PREFIXES = ("sk_test_", "rk_test_")


def account_of(authorization: str) -> str:
    """Give the account id, or refuse with 401 or 403; the key itself is never repeated."""
    key = _key_of(authorization)
    prefix = next((p for p in _PREFIXES if key.startswith(p) and len(key) > len(p)), None)
    if prefix is None or "invalid" in key:
        raise unauthorized()
    if "forbidden" in key:
        message = "The provided key does not have the permissions required for this endpoint."
        raise ApiError(403, message, code="more_permissions_required")
    return _derived(key.removeprefix(prefix)[:_ACCOUNT_PART])


@lru_cache(maxsize=1024)
def _derived(part: str) -> str:
    return f"acct_1{hashlib.sha256(part.encode()).hexdigest()[:15]}"


def _key_of(authorization: str) -> str:
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode("ascii").partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
