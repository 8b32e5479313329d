"""What must hold at every moment, checked in the moment: each script's answer and each effect against a small model."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.jobs import FINAL, Kind, Mode, Status
from shared.redis_calls import ROOT
from standin.records import Effect, EffectKind
from tests.faults.simulator.store import Link
from tests.faults.simulator.world import World

_RESULT = ("status", "result", "error", "stripe_id", "book", "finished_ms")
_QUIET = frozenset({"feed", "circuit", "reserve"})
"""Said so often that they would fill the end of a trace."""


@dataclass(slots=True)
class _Lease:
    """Until when a claim holds at least, and at most: the desk may move leases when the store's clock is put back."""

    fence: int
    token: str
    until_ms: float
    at_least_until_ms: float


class Watch:
    """Sees everything in the order in which it happens. It knows what no part of the desk knows: what really left."""

    def __init__(self, world: World, link: Link) -> None:
        self._world, self._link = world, link
        self._leases: dict[str, _Lease] = {}
        self._fences: Counter[str] = Counter()
        self.results: dict[str, str] = {}
        """How each job that came to its end stood then."""
        self.open_calls: Counter[str] = Counter()
        """By job: the POSTs whose bytes left and that no refusal of Stripe's door took back."""
        self.effects: Counter[tuple[str | None, str]] = Counter()
        self.calls: list[float] = []
        """When each call to Stripe began, by the loop's clock."""
        self.on_payable: Callable[[str, Kind], None] = lambda _, __: None
        self._payable: set[str] = set()
        self._read = {"accept": self._accepted, "claim": self._claimed, "record": self._recorded,
                      "release": self._released, "feed": self._fed, "circuit": self._plain, "reserve": self._plain}

    def script(self, who: str, name: str, args: tuple[Any, ...], reply: Any) -> None:
        """A script has just run."""
        said = self._read[name](args, reply) if name in self._read else ""
        if said:
            self._world.say(who, f"{name} {said}", quietly=name in _QUIET)

    def now_ms(self) -> int:
        """The store's time."""
        return int(self._world.clock.store() * 1000)

    def _plain(self, args: tuple[Any, ...], reply: Any) -> str:
        return f"{args} -> {reply}"

    def set_clock(self, before_ms: int) -> None:
        """The store's clock was set."""
        for lease in self._leases.values():
            lease.at_least_until_ms -= max(0, before_ms - self.now_ms())

    def _accepted(self, args: tuple[Any, ...], reply: Any) -> str:
        self._world.counts["accepts"] += 1
        return f"{self._world.name(args[0])} {reply[0]}"

    def _claimed(self, args: tuple[Any, ...], reply: Any) -> str:
        token, lease_ms = args[0], args[1]
        said = []
        for job_id, verdict, *flat in reply:
            said.append(f"{self._world.name(job_id)} {verdict}")
            if verdict == "claimed":
                self._lease(job_id, token, lease_ms, dict(zip(flat[::2], flat[1::2], strict=True)))
        return ", ".join(said)

    def _lease(self, job_id: str, token: str, lease_ms: int, fields: dict[str, str]) -> None:
        name, fence, held = self._world.name(job_id), int(fields["fence"]), self._leases.get(job_id)
        if held is not None and held.token == token and held.fence == fence:
            return  # the same claim, asked again after a lost reply
        self._world.counts["attempts"] += 1
        if job_id in self.results:
            self._world.broken(f"{name} was claimed after its end")
        if held is not None and held.at_least_until_ms > self.now_ms():
            self._world.broken(f"{name} was claimed under another's live lease")
        if fence <= self._fences[job_id]:
            self._world.broken(f"{name} was claimed with fence {fence} after {self._fences[job_id]}")
        asks_stripe = fields["status"] == Status.RUNNING and fields["mode"] != Mode.NONE
        if asks_stripe and int(fields.get("doubts", "0")) <= self.open_calls[job_id]:
            self._world.broken(f"{name} was claimed with {fields.get('doubts', '0')} doubts, its own among them, after "
                               f"{self.open_calls[job_id]} calls that may have arrived")
        self._fences[job_id] = fence
        until_ms = self.now_ms() + lease_ms
        self._leases[job_id] = _Lease(fence, token, until_ms, until_ms)

    def _recorded(self, args: tuple[Any, ...], reply: Any) -> str:
        fact, verdict = json.loads(args[0]), reply[0]
        job_id = fact["job"]
        name = self._world.name(job_id)
        if verdict == "recorded":
            if fact["basis"] == "absence":
                self._gave_up(job_id)
            elif fact["basis"] != "fact":
                self._guessed(job_id, fact)
            if job_id in self.results:
                self._world.broken(f"{name} came to a second end")
            self._leases.pop(job_id, None)
            if fact["status"] in FINAL:
                self.results[job_id] = self.result(job_id)
        if verdict == "contradicted":
            self._world.broken(f"{name} was contradicted by {fact['status']}")
        return f"{name} {fact['basis']} {fact['status']} -> {verdict}"

    def _guessed(self, job_id: str, fact: dict[str, Any]) -> None:
        name = self._world.name(job_id)
        self._needs_lease(job_id, int(fact["fence"]), f"a {fact['basis']} was recorded")
        if fact["basis"] == "mock":
            self._world.counts["mocked"] += 1
            if self.open_calls[job_id]:
                self._world.broken(f"{name} was mocked after a call that may have arrived")

    def _gave_up(self, job_id: str) -> None:
        self._world.counts["given up"] += 1
        if any(self.effects[job_id, kind] for kind in EffectKind):
            self._world.broken(f"{self._world.name(job_id)} was given up, and Stripe has it")

    def _needs_lease(self, job_id: str, fence: int, what: str) -> None:
        held = self._leases.get(job_id)
        if held is None or held.fence != fence or held.until_ms <= self.now_ms():
            self._world.broken(f"{self._world.name(job_id)}: {what} without a live lease")

    def _released(self, args: tuple[Any, ...], reply: Any) -> str:
        job_id = args[0]
        if reply != "fenced":
            self._needs_lease(job_id, int(args[1]), "released")
            self._leases.pop(job_id, None)
        return f"{self._world.name(job_id)} {json.loads(args[5])['code']} -> {reply}"

    def _fed(self, _: tuple[Any, ...], reply: Any) -> str:
        for job_id in reply[::2]:
            if job_id in self.results:
                self._world.broken(f"{self._world.name(job_id)} was handed out after its end")
            held = self._leases.pop(job_id, None)
            if held is not None and held.at_least_until_ms > self.now_ms():
                self._world.broken(f"{self._world.name(job_id)} was handed out under a live lease")
        return " ".join(self._world.name(job_id) for job_id in reply[::2])

    def result(self, job_id: str) -> str:
        """A job's end as the store has it now, in short."""
        found = self._link.raw("HMGET", f"{ROOT}job:{job_id}", *_RESULT)
        return hashlib.blake2b(repr(found).encode(), digest_size=8).hexdigest()

    def left(self, who: str, job_id: str) -> None:
        """Bytes of a call to Stripe have left; `job_id` is empty for one that only reads."""
        self._world.say(who, f"sends {self._world.name(job_id) or 'a look'}")
        if job_id:
            self.open_calls[job_id] += 1

    def taken_back(self, job_id: str) -> None:
        """Stripe's door refused a call, so it was as good as never sent."""
        if job_id:
            self.open_calls[job_id] -= 1

    def payable(self, job_id: str, intent_id: str) -> None:
        """A payment stands at Stripe and waits for its customer."""
        if intent_id not in self._payable and job_id in self._world.specs:
            self._payable.add(intent_id)
            self.on_payable(intent_id, self._world.specs[job_id].kind)

    def effect(self, effect: Effect) -> None:
        """Something has really happened at Stripe."""
        key = (effect.job_id, effect.kind)
        self.effects[key] += 1
        name = self._world.name(effect.job_id or "")
        self._world.say("stripe", f"{effect.kind} of {name}")
        if self.effects[key] > 1:
            self._world.broken(f"{name} has {self.effects[key]} effects of kind {effect.kind}")
