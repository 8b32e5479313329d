"""Stripe's v1 idempotency: the first answer binds the key, for 24 hours, within one account."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from standin.clock import Clock
from standin.errors import ApiError, ErrorType, key_in_use
from standin.records import Saved, Store
from standin.wire import Answer

KEPT_SECONDS = 24 * 3600
MAX_KEY_LENGTH = 255


def fingerprint(path: str, pairs: list[tuple[str, str]]) -> str:
    """Give what must be the same for a key to be used again; the order of parameters does not matter."""
    return hashlib.sha256(repr((path, sorted(pairs))).encode("utf-8", "surrogatepass")).hexdigest()


class Idempotency:
    """At most one execution per key while the key is kept."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: set[tuple[str, str]] = set()

    def replay(self, account: str, key: str, mark: str) -> Answer | None:
        """Give the kept answer, None when the key is free, or refuse another request under it."""
        if len(key) > MAX_KEY_LENGTH:
            raise ApiError(400, f"Idempotency keys must be at most {MAX_KEY_LENGTH} characters.")
        if (account, key) in self._running:
            raise key_in_use()
        saved = self._store.saved(account, key)
        if saved is None or self._clock.now() - saved.created >= KEPT_SECONDS:
            return None
        if saved.fingerprint != mark:
            raise ApiError(
                400,
                "Keys for idempotent requests can only be used with the same endpoint and the same parameters "
                "they were first used with. Try using a key other than the one given if you meant another request.",
                kind=ErrorType.IDEMPOTENCY,
            )
        headers = [("Idempotent-Replayed", "true"), ("Original-Request", saved.request_id)]
        if saved.status >= 500:
            headers.append(("Stripe-Should-Retry", "false"))
        return Answer(saved.status, saved.body, headers)

    @contextmanager
    def running(self, account: str, key: str) -> Iterator[None]:
        """Keep the key in use while its first request runs."""
        self._running.add((account, key))
        try:
            yield
        finally:
            self._running.discard((account, key))

    def save(self, account: str, key: str, mark: str, answer: Answer, request_id: str) -> None:
        """Bind the key to this answer; to be called in the transaction of the effect."""
        saved = Saved(mark, answer.status, answer.body, request_id, self._clock.now())
        self._store.save(account, key, saved)
