"""Whose store this is: a desk's ids derive from its secret, so a store may only ever be used with one."""

from shared.errors import WrongSecret
from shared.ids import Ids
from shared.redis_calls import ROOT, RedisCalls


class Instance:
    """Whether the store is this desk's own: it keeps a fingerprint of the secret that all ids derive from."""

    def __init__(self, calls: RedisCalls, ids: Ids) -> None:
        self._calls = calls
        self._fingerprint = ids.fingerprint()
        self._known = False

    async def check(self) -> None:
        """Return when the store is ours, which it becomes if it is nobody's. Raises WrongSecret, StoreUnavailable."""
        if self._known:
            return
        found = await self._calls.call("GET", f"{ROOT}instance")
        if found is None:  # only then: a store whose memory is full refuses every SET
            await self._calls.call("SET", f"{ROOT}instance", self._fingerprint, "NX")
            found = await self._calls.call("GET", f"{ROOT}instance")
        if found != self._fingerprint:
            raise WrongSecret("The store belongs to a desk with another PAYDESK_SECRET: use that secret, "
                              "or another store.")
        self._known = True
