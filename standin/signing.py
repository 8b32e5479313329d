"""The `Stripe-Signature` header of a webhook."""

from __future__ import annotations

import hashlib
import hmac


def signature(secrets: list[str], signed_at: int, body: bytes) -> str:
    """Give the header's value: one `v1` for each secret, over the moment and the raw body."""
    signed = f"{signed_at}.".encode() + body
    each = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={signed_at}", *(f"v1={mac}" for mac in each)])
