"""Virtual time: a loop that never waits, processes that can be frozen on it, and the clocks of three machines."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVarTuple

EPOCH = 1_795_000_000.0
"""When every simulation begins."""


@dataclass
class Clock:
    """What time it is: really, by the store's clock, and by the workers' wall clocks."""

    awake: float = 0.0
    """Seconds that the loop has run: what timers go by."""
    slept: float = 0.0
    """Seconds in which nothing ran anywhere: the loop's timers know nothing of them, all clocks do."""
    store_off: float = 0.0
    host_off: float = 0.0

    def lasted(self) -> float:
        """Seconds since the beginning; nobody can set this clock."""
        return self.awake + self.slept

    def now(self) -> float:
        """Unix seconds as they really are: Stripe's."""
        return EPOCH + self.awake + self.slept

    def store(self) -> float:
        """Unix seconds as the store's machine believes."""
        return self.now() + self.store_off

    def host_ms(self) -> int:
        """Unix milliseconds as the workers' machine believes."""
        return int((self.now() + self.host_off) * 1000)


@dataclass(eq=False)
class Process:
    """A process: what it began ends with it."""

    name: str
    dead: bool = False
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def began(self, task: asyncio.Task[Any]) -> None:
        """Keep a task, so that a kill ends it."""
        if len(self.tasks) > 1000:
            self.tasks = [task for task in self.tasks if not task.done()]
        self.tasks.append(task)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""On behalf of which process the loop runs something; None: of the world around them."""

Ts = TypeVarTuple("Ts")

_Held = tuple[asyncio.Handle, Callable[..., Any], tuple[Any, ...], Context]


class NothingLeft(Exception):
    """Everybody waits, and no timer will ever wake anybody."""


class _Jump(selectors.SelectSelector):
    """Instead of waiting, time passes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise NothingLeft
        self._clock.awake += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when nobody has anything to do. What a frozen process does next is held."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(_Jump(clock))
        self._clock = clock
        self._frozen: dict[Process, list[_Held]] = {}
        self.set_task_factory(self._begin)

    def time(self) -> float:
        return self._clock.awake

    def _begin(self, loop: asyncio.AbstractEventLoop, coro: Any, /, **how: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **how)
        process = PROCESS.get()
        if process is not None:
            process.began(task)
        return task

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts,
                  context: Context | None = None) -> asyncio.Handle:
        if self._frozen:
            process = PROCESS.get() if context is None else context.get(PROCESS)
            if process is not None and process in self._frozen:
                return self._hold(process, callback, args, context or copy_context())
        return super().call_soon(callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts,
                context: Context | None = None) -> asyncio.TimerHandle:
        made: list[asyncio.TimerHandle] = []
        made.append(super().call_at(when, self._due, made, callback, args, context=context))
        return made[0]

    def _due(self, made: list[asyncio.TimerHandle], callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        process = PROCESS.get()
        if process is not None and process in self._frozen:  # its own handle, so that it can still be cancelled
            self._frozen[process].append((made[0], callback, args, copy_context()))
        else:
            callback(*args)

    def _hold(self, process: Process, callback: Callable[..., Any], args: tuple[Any, ...],
              context: Context) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._frozen[process].append((handle, callback, args, context))
        return handle

    def freeze(self, process: Process) -> None:
        """From now on nothing of this process runs, as after SIGSTOP."""
        self._frozen.setdefault(process, [])

    def thaw(self, process: Process) -> None:
        """Let it go on where it was."""
        for handle, callback, args, context in self._frozen.pop(process, []):
            self.call_soon(_go_on, handle, callback, args, context=context)

    def is_frozen(self, process: Process) -> bool:
        """Whether it stands still."""
        return process in self._frozen

    def kill(self, process: Process) -> None:
        """End a process: its tasks run no further effect. (They are unwound; whoever they would speak to is deaf.)"""
        process.dead = True
        self.thaw(process)
        for task in process.tasks:
            task.cancel()
        process.tasks = []

    def start(self, process: Process, coro: Coroutine[Any, Any, Any]) -> None:
        """Begin something on behalf of a process."""
        context = copy_context()
        context.run(PROCESS.set, process)
        process.began(self.create_task(coro, context=context))


def _go_on(handle: asyncio.Handle, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Asked only now: what ran before this, after the thaw, may have cancelled it."""
    if not handle.cancelled():
        callback(*args)
