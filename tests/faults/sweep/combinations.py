"""What is combined: where and how something is stopped, the fault that the stand-in plays, and the kind of job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self


class Shape(StrEnum):
    """A job as the sweep makes it, and what it has behind it when the stops and the fault begin."""

    CHARGE = "charge"
    DECLINED = "declined"
    """A charge that the bank declines."""
    PAYMENT_INTENT = "payment_intent"
    CUSTOMER = "customer"
    REFRESH = "refresh"
    """A look at the intent of another job, which the customer has paid meanwhile."""
    LOOK = "look"
    """A charge that is pending, and that the customer has finished meanwhile."""
    ABANDONED = "abandoned"
    """A charge that has been pending for eight days: it is canceled at Stripe."""
    IN_DOUBT = "in_doubt"
    """A charge whose first worker died after it was sent."""
    MOCK = "mock"
    """An intent on a desk without a key, and the payment that the mock then plays."""


class Crash(StrEnum):
    """What is stopped at a failpoint."""

    EXIT = "exit"
    """The process, at once."""
    STORE = "store"
    """The store, by SIGKILL; the process lives on and finds the store away, or started again."""
    BOTH = "both"


class Process(StrEnum):
    """Whose failpoint it is."""

    WEB = "web"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Stop:
    """One crash: at the nth pass of a failpoint in one process."""

    process: Process
    failpoint: str
    crash: Crash
    nth: int = 1

    def __str__(self) -> str:
        where = "web:" if self.process is Process.WEB else ""
        return f"{where}{self.failpoint}{f'@{self.nth}' if self.nth > 1 else ''} {self.crash}"

    @classmethod
    def read(cls, where: str, crash: str) -> Self:
        """Read what str() wrote."""
        process, _, point = where.rpartition(":")
        name, _, nth = point.partition("@")
        return cls(Process(process or Process.WORKER), name, Crash(crash), int(nth or "1"))


@dataclass(frozen=True, slots=True)
class Combination:
    """One run of the sweep. Written as `record.before exit status:500_after charge`; a second stop comes after the
    first, and `web:` before a failpoint means the front door's."""

    stops: tuple[Stop, ...]
    fault: str
    shape: Shape

    def __str__(self) -> str:
        return " ".join([*map(str, self.stops), self.fault, self.shape])

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what str() wrote. Raises ValueError."""
        *stops, fault, shape = text.split()
        if fault not in FAULTS:
            raise ValueError(f"There is no fault {fault!r}.")
        return cls(tuple(Stop.read(where, crash) for where, crash in zip(stops[::2], stops[1::2], strict=True)),
                   fault, Shape(shape))


@dataclass(frozen=True, slots=True)
class Fault:
    """What the stand-in does to the job's first request, or the network to all of them (`action` None)."""

    action: str | None
    options: Mapping[str, Any] = field(default_factory=dict)
    hangs: bool = False
    """Whether only the caller's own patience ends it."""
    strikes_looks: bool = True
    """Whether it means anything to a request that reads."""
    binds_the_key: bool = False
    """Whether the fault's answer is what Stripe will replay for ever: only a comparison of lists ends the doubt."""
    tells_another_object: bool = False
    """Whether the answer is about what was not asked for: a human must look."""
    refuses_the_key: bool = False


NO_FAULT = "none"
NO_NETWORK = "refuse"

FAULTS: Mapping[str, Fault] = {
    NO_FAULT: Fault(None),
    NO_NETWORK: Fault(None),
    "reset_before_read": Fault("reset_before_read"),
    "die_before_effect": Fault("die_before_effect"),
    "die_after_effect": Fault("die_after_effect"),
    "close_after_effect": Fault("close_after_effect"),
    "cut_answer:rst": Fault("cut_answer", {"end": "rst"}),
    "cut_answer:fin": Fault("cut_answer", {"end": "fin"}),
    "hang_before": Fault("hang_before", hangs=True),
    "hang_after": Fault("hang_after", hangs=True),
    "hang_mid_body": Fault("hang_mid_body", hangs=True),
    "delay": Fault("delay_ms", {"delay_ms": 40}),
    "delay_twice": Fault("delay_ms", {"delay_ms": 40, "times": 2}),
    "garbage": Fault("garbage"),
    "garbage:unexecuted": Fault("garbage", {"effect": False}),
    "html": Fault("html"),
    "html:executed": Fault("html", {"effect": True}),
    "redirect": Fault("redirect"),
    "redirect:executed": Fault("redirect", {"effect": True}),
    "oversize": Fault("oversize"),
    "oversize:unexecuted": Fault("oversize", {"effect": False}),
    "lock_timeout": Fault("lock_timeout"),
    "status:401": Fault("status:401", refuses_the_key=True),
    "status:409": Fault("status:409"),
    "status:429": Fault("status:429"),
    "status:429_twice": Fault("status:429", {"times": 2}),
    "status:503": Fault("status:503"),
    "status:500_before": Fault("status:500_before", binds_the_key=True),
    "status:500_after": Fault("status:500_after", binds_the_key=True),
    "wrong_amount": Fault("wrong_amount", tells_another_object=True),
    "wrong_livemode": Fault("wrong_livemode", tells_another_object=True),
}


def meets(shape: Shape, fault: str) -> bool:
    """Whether a job of this shape comes to where the fault strikes."""
    return fault == NO_FAULT or shape is not Shape.MOCK
