"""Whose store this is, and whether it is whole: the store's epoch, and the stamp file that remembers it outside."""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import structlog
from redis.exceptions import ResponseError

from shared.errors import PaydeskError, StoreLost, StoreUnavailable, WrongSecret
from shared.events import Position
from shared.failpoints import failpoint
from shared.ids import Ids, token
from shared.redis_calls import ROOT, RedisCalls

log = structlog.get_logger(__name__)

STAMP_FILE = "epoch"
"""The stamp's name in the data directory, beside the secret."""

MENDS = ("`paydesk reconcile` rebuilds it from what Stripe knows; a desk without a Stripe key accepts the loss with "
         "`paydesk reconcile --accept-loss`.")
"""What ends a loss of the store, for whoever runs the desk."""

CHECK_SECONDS = 1.0
"""How often a process looks again; so old is a stamp at most."""

_KEY = f"{ROOT}epoch"
_HOLD = f"{ROOT}hold"
_REBUILDING = "rebuilding"
_INSTANCE = f"{ROOT}instance"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is remembered of a store outside of it."""

    epoch: str
    last_event: str
    losses: int

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """The stamp in a file; None when there is none. Raises StoreLost when what is there is no stamp."""
        try:
            found = json.loads(file.read_text())
            stamp = cls(str(found["epoch"]), str(found["last_event"]), int(found["losses"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            stamp = None
        if stamp is None or Position.read(stamp.last_event) is None:
            raise StoreLost(f"The stamp of the store, {file}, cannot be read, so nobody can say whether the store is "
                            "whole.")
        return stamp

    def write(self, file: Path) -> None:
        """Replace the file, whole or not at all, also through a power cut."""
        draft = file.with_name(f"{file.name}.{token()}")
        draft.touch(mode=0o600, exist_ok=False)
        with draft.open("w") as opened:
            opened.write(json.dumps(asdict(self)))
            opened.flush()
            os.fsync(opened.fileno())
        failpoint("stamp.drafted")
        draft.replace(file)

    def lacks(self, other: "Stamp") -> bool:
        """Whether the other knows something of the same epoch that came later."""
        return self.losses < other.losses or _place(self.last_event) < _place(other.last_event)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the store says of itself."""

    epoch: Mapping[str, str]
    instance: str | None
    last_event: str
    run_id: str
    always: bool
    """Whether it keeps all that it acknowledges: an AOF that is synced at each write."""
    promoted: bool
    """Whether it was a replica, which may lag behind the server that it replaces."""

    @property
    def losses(self) -> int:
        return int(self.epoch.get("losses", "0"))

    @property
    def earlier(self) -> Sequence[str]:
        return self.epoch.get("before", "").split()


class Epoch:
    """The one place that says "this store is ours and whole". Whoever makes one has the scripts of these calls loaded
    into a restarted server only after it was asked.

    Without a stamp file it knows whose the store is, and not whether it is whole.
    """

    def __init__(self, calls: RedisCalls, ids: Ids, stamp: Path | None = None) -> None:
        self._calls = calls
        self._fingerprint = ids.fingerprint()
        self._file = stamp
        self._known = False
        self._began = 0
        self._checking = asyncio.Lock()
        self._cannot_write = False
        calls.guard = self.look_again

    async def check(self) -> None:
        """Return when the store is ours and whole; one that is nobody's becomes ours.

        Raises WrongSecret, StoreLost, StoreUnavailable, StoreFull. What was found once is not asked again until
        something speaks against it.
        """
        if not self._known:
            await self.look_again()

    async def look_again(self) -> None:
        """Check now, whatever was known. Calls at the same time share a check that began after they came."""
        before = self._began
        async with self._checking:
            if self._known and self._began != before:
                return
            self._began += 1
            try:
                await self._check()
            except BaseException:
                self._known = False
                raise
            self._known = True

    async def watch(self) -> None:
        """Look again each second until cancelled, and keep the stamp up to date."""
        told = ""
        while True:
            said = ""
            try:
                await self.look_again()
            except StoreUnavailable as fault:
                said = fault.code if isinstance(fault, StoreLost) else ""
            except PaydeskError as fault:
                said = fault.code
            except Exception as failure:  # whatever it was, it must not end the watch
                log.exception("epoch_not_watched", reason=type(failure).__name__)
            if said and said != told:
                log.error(said)
            told = said
            await asyncio.sleep(CHECK_SECONDS)

    @contextlib.asynccontextmanager
    async def rebuilding(self) -> AsyncIterator[bool]:
        """Let a block put back what is known from elsewhere; it is told whether the store was lost.

        A lost store is begun anew, on hold until the block ends well: jobs are accepted meanwhile, none is claimed. One
        whose rebuilding was cut off is still on hold, and counts as lost. Raises WrongSecret, StoreUnavailable.
        """
        try:
            await self.look_again()
            lost = await self._calls.call("GET", _HOLD) == _REBUILDING
        except StoreLost:
            await self.begin_anew(hold=_REBUILDING)
            lost = True
        yield lost
        if lost:
            await self._calls.call("DEL", _HOLD)

    async def begin_anew(self, *, hold: str = "") -> int:
        """Accept what the store has now as all there is; answers how many losses it has had.

        To be called when what Stripe knows was rebuilt, or when there is no Stripe to ask. From now on unfinished jobs,
        and what is submitted again under a key, start in doubt. Raises WrongSecret, StoreUnavailable.
        """
        async with self._checking:
            stamp = await self._stamp_or_none()
            seen = await self._see()
            self._check_owner(seen)
            await self._calls.call("SET", _INSTANCE, self._fingerprint)
            losses = 1 + max(seen.losses, stamp.losses if stamp else 0)
            earlier = dict.fromkeys([*seen.earlier, *([stamp.epoch] if stamp else []), seen.epoch.get("id", "")])
            epoch = await self._run("anew", token(), seen.run_id, _flag(seen.always), str(losses),
                                    " ".join(filter(None, earlier)), hold)
            if self._file is not None:
                failpoint("stamp.before")
                await asyncio.to_thread(_overwrite, self._file, Stamp(epoch["id"], seen.last_event, losses))
                failpoint("stamp.after")
            self._known = True
            return losses

    async def _stamp_or_none(self) -> Stamp | None:
        """What can be known from the stamp; one that cannot be read is what is given up."""
        with contextlib.suppress(StoreLost):
            return await self._stamp()
        return None

    async def _check(self) -> None:
        stamp = await self._stamp()  # before the store, which only moves on: a stamp read later might be ahead of it
        seen = await self._see()
        self._check_owner(seen)
        _check_whole(stamp, seen)
        epoch = seen.epoch
        if seen.instance is None:  # only then: a store whose memory is full refuses every SET
            await self._calls.call("SET", _INSTANCE, self._fingerprint, "NX")
            self._check_owner(await self._see())
        if not epoch.get("id"):
            epoch = await self._run("begin", token(), seen.run_id, _flag(seen.always))
        elif (epoch.get("run_id", ""), epoch.get("always")) != (seen.run_id, _flag(seen.always)):
            epoch = await self._run("seen", epoch.get("run_id", ""), seen.run_id, _flag(seen.always),
                                    _flag(seen.promoted))
        if self._file is not None:
            made = Stamp(epoch["id"], seen.last_event, int(epoch.get("losses", "0")))
            await self._keep(self._file, stamp, made)

    async def _keep(self, file: Path, known: Stamp | None, made: Stamp) -> None:
        """Put the stamp up to date. Where nothing can be written the old one stays: it only asks for less."""
        if known == made:
            return
        try:
            failpoint("stamp.before")
            await asyncio.to_thread(_replace, file, known, made)
            failpoint("stamp.after")
        except OSError as failure:
            if not self._cannot_write:
                log.warning("stamp_not_written", reason=failure.strerror)
            self._cannot_write = True

    async def _stamp(self) -> Stamp | None:
        return None if self._file is None else await asyncio.to_thread(Stamp.read, self._file)

    def _check_owner(self, seen: _Seen) -> None:
        if seen.instance not in (None, self._fingerprint):
            raise WrongSecret("The store belongs to a desk with another PAYDESK_SECRET: use that secret, "
                              "or another store.")

    async def _see(self) -> _Seen:
        call = self._calls.call
        epoch, instance, events, info, config = await asyncio.gather(
            call("HGETALL", _KEY), call("GET", _INSTANCE), self._or_none("XINFO STREAM", f"{ROOT}events"),
            self._or_none("INFO", "server", "replication"), self._or_none("CONFIG GET", "append*"))
        info, config = info or {}, config or {}
        # A server that does not tell which run of it this is counts as another one each time.
        return _Seen(epoch=epoch, instance=instance, last_event=events["last-generated-id"] if events else "0-0",
                     run_id=str(info.get("run_id") or token()),
                     always=(config.get("appendonly"), config.get("appendfsync")) == ("yes", "always"),
                     promoted=int(info.get("second_repl_offset", -1)) >= 0)

    async def _or_none(self, *command: str) -> Any:
        """What the server answers; None when it has no such thing or does not tell it to everybody."""
        try:
            return await self._calls.call(*command)
        except ResponseError:
            return None

    async def _run(self, verb: str, *args: str) -> dict[str, str]:
        flat = await self._calls.evaluate("epoch", _KEY, verb, *args)
        return dict(zip(flat[0::2], flat[1::2], strict=True))


def _check_whole(stamp: Stamp | None, seen: _Seen) -> None:
    """Compare what is remembered with what is there. Without a stamp there is nothing to miss: the store is adopted."""
    if stamp is None:
        return
    epoch = seen.epoch.get("id")
    if not epoch:
        raise StoreLost("The store was emptied: what this desk had in it is gone.")
    if stamp.epoch in seen.earlier:  # begun anew from another machine, which has its own stamp
        return
    if stamp.epoch != epoch:
        raise StoreLost("The store is not the one that this desk had: it was replaced.")
    if Stamp(epoch, seen.last_event, seen.losses).lacks(stamp):
        raise StoreLost("The store is an older copy of the one that this desk had: what came later is gone.")


def _replace(file: Path, known: Stamp | None, made: Stamp) -> None:
    """Write a stamp over the one that was known or one that says less; another process may have been faster."""
    with _held(file):
        there = Stamp.read(file)
        if there in (None, known) or (there.epoch == made.epoch and not made.lacks(there)):
            made.write(file)


def _overwrite(file: Path, made: Stamp) -> None:
    with _held(file):
        made.write(file)


@contextlib.contextmanager
def _held(file: Path) -> Iterator[None]:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _place(event: str) -> Position:
    return Position.read(event) or Position(0, 0)


def _flag(value: bool) -> str:  # noqa: FBT001  # a flag is what this writes
    return "1" if value else "0"
