"""Every id is derived, or random and made before anything is stored, so that asking twice finds the same thing."""

import base64
import hashlib
import hmac
import secrets

_ID_BYTES = 20
"""160 bits: nobody guesses another caller's job, and no two jobs collide."""
_DESK_CHARACTERS = 12


def _text(digest: bytes) -> str:
    return base64.b32encode(digest[:_ID_BYTES]).decode().lower()


class Ids:
    """Derives the ids of one desk from its instance secret; the same question always gives the same id."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def _derive(self, *parts: str) -> str:
        """HMAC over length-prefixed parts, so that ("ab", "c") and ("a", "bc") differ."""
        message = b"".join(len(raw).to_bytes(4, "big") + raw for raw in (part.encode() for part in parts))
        return _text(hmac.digest(self._secret, message, hashlib.sha256))

    def job(self, caller: str, route: str, idempotency_key: str | None) -> str:
        """The id of the job that this caller asks for at this route; random when there is no key."""
        if idempotency_key is None:
            return f"job_{_text(secrets.token_bytes(_ID_BYTES))}"
        return f"job_{self._derive('job', caller, route, idempotency_key)}"

    def child(self, role: str, parent_job_id: str) -> str:
        """The one child that a job has in a role ("retry", "settle", "mock_payment")."""
        return f"job_{self._derive(role, parent_job_id)}"

    def status_refresh(self, payment_intent_id: str, window: int) -> str:
        """The id of the one job that looks at a payment in a freshness window."""
        return f"job_{self._derive('status_refresh', payment_intent_id, str(window))}"

    def fingerprint(self) -> str:
        """What the store keeps to recognise this desk's secret, telling nothing of it."""
        return self._derive("instance")

    def desk(self) -> str:
        """How this desk marks what it makes at Stripe: enough of its fingerprint to tell it from any other's."""
        return self.fingerprint()[:_DESK_CHARACTERS]


def mock_id(prefix: str, job_id: str) -> str:
    """The id of the mock object of a job: `pi_mock_…` or `cus_mock_…`, the same at each attempt."""
    return f"{prefix}_mock_{job_id.removeprefix('job_')}"


def mock_secret(mock_object_id: str) -> str:
    """A client_secret in Stripe's shape for a mock intent; it opens nothing, so it need not be secret."""
    return f"{mock_object_id}_secret_{hashlib.sha256(mock_object_id.encode()).hexdigest()[:24]}"


def token() -> str:
    """A caller's token for one accept or claim: sent again after a lost reply, it gets the first answer."""
    return secrets.token_hex(12)
