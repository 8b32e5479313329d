"""Is Stripe within reach? One answer for the whole desk, from what every worker with a fresh heartbeat has seen."""

from dataclasses import dataclass

from shared.redis_calls import RedisCalls

PROBE_EVERY_MS = 2_000
"""How often one worker of the desk probes while the circuit is open: Stripe's return is noticed well within 10 s."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What stands at one moment."""

    open: bool
    """Stripe is out of every worker's reach: the mock may answer what provably was not sent."""
    suspected: bool
    """A worker's call could not connect, and it is trying whether that is so for every call."""
    failing_workers: int
    fresh_workers: int
    threads: int
    """Hints that all fresh workers hold at a time, together."""
    granted: bool
    """Whether the right to probe was given to who asked."""


class Circuit:
    """The desk's shared view of Stripe's reach. Each method is one step and answers what stands after it."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    async def look(self) -> Reach:
        """What stands now; changes nothing."""
        return await self._say("look")

    async def beat(self, worker: str, *, threads: int) -> Reach:
        """A worker's heartbeat; without one for five seconds it counts no more."""
        return await self._say("beat", worker, threads)

    async def leave(self, worker: str) -> Reach:
        """A worker stops."""
        return await self._say("leave", worker)

    async def suspect(self, worker: str) -> Reach:
        """A call of this worker could not connect; it tries again now, and so should the others."""
        return await self._say("suspect", worker)

    async def failed(self, worker: str) -> Reach:
        """A worker tried and could not connect to Stripe."""
        return await self._say("failed", worker)

    async def answered(self) -> Reach:
        """Stripe was reached. (An answer that is recorded or released says so by itself.)"""
        return await self._say("answered")

    async def may_probe(self, worker: str) -> Reach:
        """Ask for the right to try again. While the circuit is open one worker has it at a time, in turn."""
        return await self._say("probe", worker, PROBE_EVERY_MS)

    async def _say(self, verb: str, worker: str = "", number: int = 0) -> Reach:
        is_open, suspected, failing, fresh, threads, granted = await self._calls.script("circuit", verb, worker, number)
        return Reach(is_open == "1", suspected == "1", int(failing), int(fresh), int(threads), granted == "1")
