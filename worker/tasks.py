"""Celery's side: one task per kind, a few lines each. They hand job ids to the loop and wait; no rules live here."""

from collections.abc import Callable, Sequence

from celery import Celery, Task

from shared.broker import task_name
from shared.jobs import Kind, Lane

Work = Callable[[Lane, Sequence[str]], str]
"""Works the named jobs, which came through a lane, and answers one line for people."""


def register_tasks(app: Celery, work: Work) -> None:
    """Register the task of each kind. A task's argument is job ids, and what it returns holds nothing personal."""
    for kind in Kind:
        app.task(name=task_name(kind), bind=True, ignore_result=True)(_shell(work))


def _shell(work: Work) -> Callable[..., str]:
    def run(task: Task[..., str], job_ids: list[str]) -> str:
        delivery = task.request.delivery_info or {}
        return work(Lane(delivery.get("routing_key") or Lane.INTERACTIVE), job_ids)

    return run
