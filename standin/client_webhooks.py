"""Drives a stand-in's webhooks from a test: who listens, what goes wrong, what was delivered."""

from __future__ import annotations

import time
from typing import Any, Protocol

Json = dict[str, Any]
_POLL_SECONDS = 0.01


class Ask(Protocol):
    """Makes a control request."""

    def __call__(self, method: str, name: str, body: Json | None = None) -> Json:
        """Give its answer."""


class WebhookControl:
    """The webhooks of one running stand-in."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def listen(
        self,
        url: str,
        *secrets: str,
        types: list[str] | None = None,
        retry_seconds: list[float] | None = None,
    ) -> Json:
        """Have events posted to an address on loopback; with two secrets each post carries two signatures."""
        asked: Json = {"url": url, "secrets": list(secrets), "types": types}
        if retry_seconds is not None:
            asked["retry_seconds"] = retry_seconds
        return self._ask("POST", "webhooks", asked)

    def unlisten(self, name: str | None = None) -> None:
        """Have nothing posted to one endpoint any more, or to all."""
        self._ask("DELETE", "webhooks", {"id": name})

    def fault(self, **fault: Any) -> Json:
        """Script one fault; the names are those of `webhook_faults.WebhookFault`, such as types, copies, lost."""
        found: Json = self._ask("POST", "webhooks/faults", {"faults": [fault]})["faults"][0]
        return found

    def faults(self) -> list[Json]:
        """Give the faults in force with how often each was matched and played."""
        return list(self._ask("GET", "webhooks/faults")["faults"])

    def clear_faults(self) -> None:
        """Put no fault in force."""
        self._ask("DELETE", "webhooks/faults")

    def hold(self) -> None:
        """Post nothing until `release`."""
        self._ask("POST", "webhooks/hold")

    def release(self, order: str = "as_made", seed: int = 0) -> int:
        """Post what was held, one by one: as_made, reversed or shuffled; give how many."""
        return int(self._ask("POST", "webhooks/release", {"order": order, "seed": seed})["released"])

    def drop(self) -> int:
        """Lose what is held, so that only the list of events has it; give how many."""
        return int(self._ask("POST", "webhooks/drop")["dropped"])

    def resend(self, event: str) -> Json:
        """Have an event delivered once more."""
        return self._ask("POST", "events/resend", {"event": event})

    def twin(self, event: str) -> Json:
        """Have a second event made of the same change, and delivered."""
        return self._ask("POST", "events/twin", {"event": event})

    def state(self) -> Json:
        """Give the endpoints, and how many deliveries are held, due, for later, or under way."""
        return self._ask("GET", "webhooks")

    def deliveries(self, kind: str | None = None) -> list[Json]:
        """Give every attempt at a delivery, oldest first; of one type of event, if one is named."""
        found = self._ask("GET", "webhooks/deliveries")["deliveries"]
        return [attempt for attempt in found if kind in {None, attempt["type"]}]

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until all that is due and not held was tried."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.state()
            if not state["under_way"] and (state["hold"] or not state["due"]):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"webhooks are not settled: {state}")
            time.sleep(_POLL_SECONDS)
