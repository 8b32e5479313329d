"""What strikes the desk from outside, at random moments: kills, freezes, networks, clocks, and moods of Stripe."""

import asyncio
from collections.abc import Callable

from shared.redis_calls import ROOT
from standin.faults import Action
from tests.faults.simulator.workers import Fleet, Surroundings

_MOODS = (Action.STATUS_401, Action.STATUS_429, Action.STATUS_503, Action.STATUS_409)
_MOST_OFF_SECONDS = 3600.0


class Weather:
    """Strikes until it is told to stop; then everything is whole again, but what it broke stays broken."""

    def __init__(self, around: Surroundings, fleet: Fleet) -> None:
        self._around, self._fleet = around, fleet
        self._world = around.world
        self._over = False
        self._strikes: tuple[tuple[Callable[[], None], int], ...] = (
            (self._kill, 6), (self._freeze, 3), (self._lose_network, 3), (self._cut_off_one, 2), (self._pause_store, 2),
            (self._lossy_store, 2), (self._set_store_clock, 1), (self._set_host_clock, 1), (self._hold, 1),
            (self._forget_hints, 2), (self._lose_broker, 1), (self._mood, 3), (self._slow, 1))

    async def run(self) -> None:
        """Strike, wait, strike."""
        strikes, weights = zip(*self._strikes, strict=True)
        rng = self._world.rng
        while not self._over:
            await asyncio.sleep(rng.expovariate(1 / self._world.climate.between_strikes))
            if not self._over:
                rng.choices(strikes, weights)[0]()

    def clear_up(self) -> None:
        """No more faults."""
        self._over = True
        around = self._around
        around.network.down_for_all, around.network.swallows = False, False
        around.network.down_for.clear()
        around.stripe.mood, around.stripe.slow = None, False
        around.stripe.fails, around.stripe.lags = 0.0, 0.0
        around.store.loses = 0.0
        around.broker.away, around.broker.loses = False, 0.0
        around.store.link.raw("DEL", f"{ROOT}hold")
        self._world.say("---", "the weather clears up")

    def _until(self, seconds: float, undo: Callable[[], None]) -> None:
        self._world.later(seconds, undo)

    def _said(self, what: str) -> None:
        self._world.counts["strikes"] += 1
        self._world.say("---", what)

    def _kill(self) -> None:
        if self._fleet.running:
            self._fleet.kill(self._world.rng.choice(self._fleet.running))

    def _freeze(self) -> None:
        worker = self._world.rng.choice(self._fleet.running) if self._fleet.running else None
        if worker is not None and not self._world.loop.is_frozen(worker.process):
            self._fleet.freeze(worker, self._world.climate.lease_seconds * self._world.rng.choice((0.2, 1.2, 2.5)))

    def _lose_network(self) -> None:
        network, rng = self._around.network, self._world.rng
        self._said("nobody reaches Stripe")
        network.down_for_all, network.swallows = True, self._world.chance(0.3)

        def back() -> None:
            network.down_for_all, network.swallows = False, False

        self._until(rng.uniform(0.5, 25), back)

    def _cut_off_one(self) -> None:
        if not self._fleet.running:
            return
        name, cut = self._world.rng.choice(self._fleet.running).process.name, self._around.network.down_for
        self._said(f"{name} does not reach Stripe")
        cut.add(name)
        self._until(self._world.rng.uniform(0.5, 25), lambda: cut.discard(name))

    def _pause_store(self) -> None:
        seconds = self._world.rng.uniform(0.5, 6)
        self._said(f"the store stands still for {seconds:.1f} s")
        self._world.disturb(seconds)
        self._around.store.paused_until = self._world.clock.awake + seconds

    def _lossy_store(self) -> None:
        self._said("the way to the store loses much")
        before, self._around.store.loses = self._world.climate.store_loses, 0.25

        def back() -> None:
            self._around.store.loses = 0.0 if self._over else before

        self._until(self._world.rng.uniform(0.5, 5), back)

    def _set_store_clock(self) -> None:
        self._world.counts["clock steps"] += 1
        before_ms = self._world.watch.now_ms()
        self._world.clock.store_off = self._stepped(self._world.clock.store_off)
        self._world.watch.set_clock(before_ms)
        self._world.disturb(60)
        self._said(f"the store's clock is now off by {self._world.clock.store_off:.1f} s")

    def _set_host_clock(self) -> None:
        self._world.counts["clock steps"] += 1
        self._world.clock.host_off = self._stepped(self._world.clock.host_off)
        self._said(f"the workers' clock is now off by {self._world.clock.host_off:.1f} s")

    def _stepped(self, off: float) -> float:
        rng = self._world.rng
        step = rng.choice((0.5, 10.0, 120.0, 3600.0)) * rng.uniform(0.2, 1) * rng.choice((-1, 1))
        return max(-_MOST_OFF_SECONDS, min(_MOST_OFF_SECONDS, off + step))

    def _hold(self) -> None:
        link = self._around.store.link
        self._said("the desk is on hold")
        link.raw("SET", f"{ROOT}hold", "1")
        self._until(self._world.rng.uniform(0.5, 5), lambda: link.raw("DEL", f"{ROOT}hold"))

    def _forget_hints(self) -> None:
        self._said("the broker forgets everything")
        self._around.broker.forget()

    def _lose_broker(self) -> None:
        self._said("the broker is away")
        self._around.broker.away = True

        def back() -> None:
            self._around.broker.away = False

        self._until(self._world.rng.uniform(0.5, 8), back)

    def _mood(self) -> None:
        stripe = self._around.stripe
        stripe.mood = self._world.rng.choice(_MOODS)
        self._said(f"Stripe answers {stripe.mood}")

        def back() -> None:
            stripe.mood = None

        self._until(self._world.rng.uniform(0.2, 5), back)

    def _slow(self) -> None:
        self._said("Stripe is slow")
        self._around.stripe.slow = True

        def back() -> None:
            self._around.stripe.slow = False

        self._until(self._world.rng.uniform(0.2, 3), back)
