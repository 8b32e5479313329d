"""The facts that can stand in a caller's way, as exceptions that know nothing of HTTP; api/problems.py maps them."""


class PaydeskError(Exception):
    """Anything that Paydesk refuses or cannot do; `code` is stable and part of the wire contract."""

    code = "internal"


class SettingsRefused(PaydeskError):
    """The desk must not start like this; the sentence says what to change. Exit code 78."""

    code = "settings_refused"


class StoreUnavailable(PaydeskError):
    """The store did not answer in time. What was asked may or may not have been done; asking again is safe."""

    code = "store_unavailable"


class StoreLost(StoreUnavailable):
    """The store is not what it was: emptied, replaced, or an older copy. Nothing was done, and it does not come back
    by itself: whoever runs the desk must rebuild it or accept the loss.
    """

    code = "store_lost"


class StoreFull(PaydeskError):
    """The store has no memory left for new jobs; those it has still finish. Nothing was stored."""

    code = "store_full"


class IdempotencyConflict(PaydeskError):
    """The same Idempotency-Key came before with another request. Nothing was stored."""

    code = "idempotency_key_reused"


class JobNotFound(PaydeskError):
    """No job of this caller has that id."""

    code = "not_found"


class StateConflict(PaydeskError):
    """The job stands so that this cannot be done to it; the sentence says how. Nothing happened."""

    code = "state_conflict"


class TooOldToResend(PaydeskError):
    """The job was first sent so long ago that Stripe may have forgotten its key. Nothing happened."""

    code = "too_old_to_resend"


class WrongSecret(PaydeskError):
    """The store belongs to a desk with another instance secret; its ids could not be derived again."""

    code = "wrong_secret"
