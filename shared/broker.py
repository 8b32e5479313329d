"""Celery as the desk uses it: the app, the tasks' names, and hints, which may be lost or doubled without harm."""

import contextlib
import queue
import threading
from collections.abc import Sequence

import structlog
from celery import Celery
from kombu import Exchange, Queue

from shared.failpoints import failpoint
from shared.jobs import Lane
from shared.redis_calls import RedisCalls

log = structlog.get_logger(__name__)

VISIBILITY_SECONDS = 600
"""When Celery delivers an unacknowledged hint again: far over the longest task. Nothing depends on it."""

_KEY_PREFIX = "q:"
_BUFFERED_HINTS = 2_000
_BATCH = 100


def task_name(kind: str) -> str:
    """The Celery task that works jobs of a kind."""
    return f"paydesk.{kind}"


def create_celery(broker_url: str) -> Celery:
    """The Celery app: an engine that spreads hints over processes. No results, no retries, no clock of its own."""
    app = Celery("paydesk", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[Queue(lane.value, Exchange(lane.value), routing_key=lane.value) for lane in Lane],
        task_default_queue=Lane.INTERACTIVE.value,
        task_create_missing_queues=False,  # a misspelt queue must fail, not fill a list that nobody reads
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=True,  # its socket is what notices that the broker went away
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_send_task_events=True,
        task_send_sent_event=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        task_publish_retry=False,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_SECONDS, "unacked_restore_interval": 10, "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 60, "socket_timeout": 10, "socket_connect_timeout": 2, "socket_keepalive": True,
            "health_check_interval": 25, "max_connections": 64, "queue_order_strategy": "priority",
            "priority_steps": [0], "global_keyprefix": _KEY_PREFIX,
        },
    )
    return app


def hints_cap(threads: int) -> int:
    """How many hints may wait in one of Celery's lists, by the threads of all workers: a backlog stays in the store."""
    return max(2, 2 * threads)


def grace_ms(lane: Lane, *, threads: int, calls_per_second: float) -> int:
    """How long a hinted job is left to Celery before it is handed out again.

    Longer than a hint waits in a desk that works, so that each job is hinted about once: the full list and the hints
    that the workers hold, at the pace of the budget, and half as much again.
    """
    queued_seconds = 1.5 * (hints_cap(threads) + threads) / calls_per_second
    return max(LEAST_GRACE_MS[lane], min(MOST_GRACE_MS, int(1000 * queued_seconds)))


LEAST_GRACE_MS = {Lane.INTERACTIVE: 5_000, Lane.BULK: 15_000}
MOST_GRACE_MS = 30_000


class Hinter:
    """Tells Celery which jobs to look at, from a thread of its own: best effort, bounded, and never in anybody's way.

    A hint that cannot be published is dropped: its job is due and will be handed out again.
    """

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._queue: queue.Queue[tuple[str, Lane, list[str]] | None] = queue.Queue(_BUFFERED_HINTS)
        self._thread = threading.Thread(target=self._publish_all, name="hinter", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def stop(self) -> None:
        """Publish what is left and end; at most a few seconds. What a broker that is away leaves over is dropped."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=1)
        self._thread.join(5)

    @property
    def unpublished(self) -> int:
        """Hints that were given and are not in Celery's list yet."""
        return self._queue.qsize()

    def hint(self, kind: str, lane: Lane, job_ids: Sequence[str]) -> bool:
        """Tell Celery to look at these jobs of one kind; False when the hint was dropped. Never blocks or raises."""
        failpoint("hint.before")
        try:
            self._queue.put_nowait((kind, lane, list(job_ids)))
        except queue.Full:
            return False
        failpoint("hint.after")
        return True

    def _publish_all(self) -> None:
        while True:
            hints = [self._queue.get()]
            while len(hints) < _BATCH and not self._queue.empty():
                hints.append(self._queue.get_nowait())
            self._publish([hint for hint in hints if hint is not None])
            if None in hints:
                return

    def _publish(self, hints: list[tuple[str, Lane, list[str]]]) -> None:
        if not hints:
            return
        try:
            failpoint("publish.before")
            with self._celery.producer_pool.acquire(block=True, timeout=2) as producer:
                for kind, lane, job_ids in hints:
                    self._celery.send_task(task_name(kind), args=[job_ids], queue=lane, producer=producer,
                                           retry=False, ignore_result=True)
            failpoint("publish.after")
        except Exception as failure:  # noqa: BLE001  # kombu lets many classes out; a lost hint costs seconds, no more
            log.warning("hints_dropped", count=len(hints), reason=type(failure).__name__)


class Backlog:
    """How many hints wait in Celery's lists: nobody publishes while a list is over its cap."""

    def __init__(self, broker: RedisCalls) -> None:
        self._broker = broker

    async def waiting(self, lane: Lane) -> int:
        """Hints in this lane's list. Raises StoreUnavailable when the broker does not answer."""
        length: int = await self._broker.call("LLEN", f"{_KEY_PREFIX}{lane}")
        return length
