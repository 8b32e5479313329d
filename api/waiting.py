"""Waiting for a job to come to rest: one subscription per process wakes whoever waits, so waiting costs nothing."""

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.errors import StoreLost, StoreUnavailable
from shared.jobs import Job
from shared.store import CHANGED_CHANNEL

log = structlog.get_logger(__name__)

LONGEST_WAIT_SECONDS = 30
MOST_WAITERS = 10_000
"""Beyond these a waiter is answered at once with what stands, and may poll."""

_POLL_SECONDS = 1.0
"""How often a waiter reads by itself while nothing would wake it."""
_SILENCE_SECONDS = 5.0
"""After this much silence the subscription is tried with a PING, after as much again it is made anew."""
_CONNECT_SECONDS = 2.0
_BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)

_PREFERENCE = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s";,=]*)\s*)?(?:;.*)?')
_ELEMENT = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+')


def preferred_wait(headers: Sequence[str]) -> int | None:
    """The seconds in `Prefer: wait=N` (RFC 7240), capped; None when the header is absent or malformed.

    When it is said more than once the first counts.
    """
    for element in itertools.chain.from_iterable(_ELEMENT.findall(header) for header in headers):
        match = _PREFERENCE.fullmatch(element)
        if match is not None and match[1].lower() == "wait":
            return wait_seconds((match[2] or "").strip('"'))
    return None


def wait_seconds(text: str) -> int | None:
    """Whole seconds as a text, capped; None when it is no such text."""
    if not (text.isascii() and text.isdigit()):
        return None
    return LONGEST_WAIT_SECONDS if len(text) > 9 else min(int(text), LONGEST_WAIT_SECONDS)


class Waiters:
    """Who waits in this process, by job. Built and used on one event loop, while `listen` runs."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=None,
                                     socket_connect_timeout=_CONNECT_SECONDS, socket_keepalive=True,
                                     retry=Retry(NoBackoff(), 0), health_check_interval=0)
        self._events: dict[str, set[asyncio.Event]] = {}
        self._count = 0
        self._listening = asyncio.Event()

    async def listening(self) -> None:
        """Return once the subscription stands."""
        await self._listening.wait()

    @contextmanager
    def watch(self, job_id: str) -> Iterator["Watch"]:
        """Be woken from now on when this job comes to rest, also before it is accepted."""
        event = asyncio.Event()
        has_room = self._count < MOST_WAITERS
        self._count += 1
        self._events.setdefault(job_id, set()).add(event)
        try:
            yield Watch(event, self._listening, has_room=has_room)
        finally:
            self._count -= 1
            events = self._events[job_id]
            events.discard(event)
            if not events:
                del self._events[job_id]

    async def listen(self) -> None:
        """Wake waiters until cancelled. Whatever befalls the store, the subscription is made anew."""
        failures = 0
        try:
            while True:
                try:
                    async with self._redis.pubsub() as channel:
                        await channel.subscribe(CHANGED_CHANNEL)
                        await self._follow(channel)
                except (RedisError, OSError) as failure:
                    failures = 0 if self._listening.is_set() else failures + 1
                    if failures < 2:
                        log.warning("waiters_unsubscribed", reason=type(failure).__name__)
                self._listening.clear()
                await asyncio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
        finally:
            self._listening.clear()
            await self._redis.aclose()

    async def _follow(self, channel: PubSub) -> None:
        asked = False
        while True:
            message = await channel.get_message(timeout=_SILENCE_SECONDS)
            if message is None:
                if asked:
                    raise ConnectionError("the subscription is silent")
                await channel.ping()
            elif message["type"] == "message":
                self._wake(message["data"])
            elif message["type"] == "subscribe":
                self._listening.set()
                for job_id in list(self._events):  # what came to rest in between was told to nobody
                    self._wake(job_id)
            asked = message is None

    def _wake(self, job_id: str) -> None:
        for event in self._events.get(job_id, ()):
            event.set()


class Watch:
    """One waiter's place."""

    def __init__(self, event: asyncio.Event, listening: asyncio.Event, *, has_room: bool) -> None:
        self._event = event
        self._listening = listening
        self._has_room = has_room

    async def until_it_rests(self, job: Job, read: Callable[[], Awaitable[Job | None]], seconds: float) -> Job:
        """The job as soon as nobody is going to move it soon, else after so many seconds as it then stands.

        While the store cannot be read, the job as it was last seen.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + (seconds if self._has_room else 0)
        while not job.status.awaits_nobody and (left := end - loop.time()) > 0:
            try:
                await self._woken(left if self._listening.is_set() else min(left, _POLL_SECONDS))
                job = await self._look_again(job, read, most_seconds=end - loop.time())
            except asyncio.CancelledError:  # the server stops, and would otherwise answer with a 500
                return job
        return job

    async def _look_again(self, job: Job, read: Callable[[], Awaitable[Job | None]], *, most_seconds: float) -> Job:
        try:
            return await read() or job
        except StoreLost:
            raise
        except StoreUnavailable:  # as long as one waits there is time for it to come back
            await asyncio.sleep(min(_POLL_SECONDS, max(0, most_seconds)))
            return job

    async def _woken(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        self._event.clear()
