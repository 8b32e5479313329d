"""The clients of the drilled desk: each asks over HTTP under its own key, and asks again until it has an answer."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable

import aiohttp

from drill.pace import Pace
from drill.plan import Plan, Submission

CLIENTS = 24
ANSWER_SECONDS = 6.0
AGAIN_SECONDS = 0.1
_LONGEST_REFUSAL = 200


class Clients:
    """Submits at the plan's pace, and after it for as long as the drill still breaks things."""

    def __init__(self, plan: Plan, url: str, pace: Pace) -> None:
        self._plan, self._url, self._pace = plan, url, pace
        self._submissions = plan.submissions()
        self._per_second = plan.total / plan.seconds
        self.submitted: dict[str, Submission] = {}
        self.accepted: defaultdict[str, set[str]] = defaultdict(set)
        """The jobs that each client's key was answered with; it must be one."""
        self.accepted_ms: list[int] = []
        self.refused: dict[str, str] = {}
        """What answered a client with something else than yes or `later`."""
        self.asked_again = 0
        self._begun = 0

    async def run(self, goes_on: Callable[[], bool]) -> None:
        """Submit all of the plan, more while `goes_on`, and return when each client has its answer or gave up."""
        self._goes_on = goes_on
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector,
                                         timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)) as session:
            await asyncio.gather(*(self._client(session) for _ in range(CLIENTS)))

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while (place := self._begun) < self._plan.total or self._goes_on():
            self._begun += 1
            await self._pace.until(place / self._per_second)
            if self._pace.stopped:
                return
            submission = next(self._submissions)
            self.submitted[submission.key] = submission
            await asyncio.gather(*(self._submit(session, submission) for _ in range(submission.posts)))

    async def _submit(self, session: aiohttp.ClientSession, submission: Submission) -> None:
        until = time.monotonic() + self._plan.patience_seconds
        while not await self._ask(session, submission):
            if time.monotonic() > until:
                return
            self.asked_again += 1
            await asyncio.sleep(AGAIN_SECONDS)

    async def _ask(self, session: aiohttp.ClientSession, submission: Submission) -> bool:
        try:
            async with session.post(f"{self._url}{submission.route}", json=submission.body,
                                    headers={"Idempotency-Key": submission.key}) as answer:
                text = await answer.read()
                status = answer.status
        except (OSError, aiohttp.ClientError, TimeoutError):
            return False
        if status >= 500:
            return False
        if status in (200, 202):
            self.accepted[submission.key].add(json.loads(text)["id"])
            self.accepted_ms.append(time.time_ns() // 1_000_000)
        else:
            self.refused[submission.key] = f"{status} {text.decode(errors='replace')[:_LONGEST_REFUSAL]}"
        return True
