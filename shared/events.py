"""The streams of what happened, and the log lines that they render to: the same bytes whenever they are rendered.

`events` has every change of a job, a payment or the books; `revenue` has the ledger entries again, and the API calls
(best effort). Each log file is rendered from one stream, so the order of its lines is the order in which the store took
them in, whatever its clock does.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from shared.jobs import timestamp
from shared.redis_calls import ROOT, RedisCalls

REVENUE_KEPT = 500_000
"""Ledger entries and API calls kept for the log, as in shared/lua/_job.lua; older ones are trimmed."""
PAGE = 250
"""Entries read at once: few, because reading them occupies the loop that the payments run on."""
LINE_BEGINS = '{"ts":"'
"""How every line begins, and how a torn one is known as ours."""

_API_CALL = "api_call"
_LEDGER = "ledger."
_PAYMENT_FIELDS = ("job_id", "kind", "status", "amount_cents", "currency", "book", "payment_intent_id", "error_code")
_REVENUE_FIELDS = ("amount_cents", "currency", "book", "total_cents", "job_id", "payment_intent_id")
_NUMBERS = frozenset({"amount_cents", "total_cents", "status_code", "ms"})
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_PLAIN_PATH = re.compile(r"unknown|/[A-Za-z0-9/_.-]{0,200}")
_PLACE = re.compile(r"([0-9]{1,19})-([0-9]{1,20})")
_LAST_SEQUENCE = 2**64 - 1


class Log(StrEnum):
    """The two log files, by name."""

    PAYMENTS = "stripe_payment_log.txt"
    """A line per change of a job or a payment."""
    REVENUE = "api_revenue_log.txt"
    """A line per API call and per ledger entry."""

    @property
    def stream(self) -> str:
        """What it is rendered from."""
        return "events" if self is Log.PAYMENTS else "revenue"


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A place in a stream: an entry's number."""

    ms: int
    sequence: int

    @classmethod
    def read(cls, number: object) -> Self | None:
        """The place that a text names; None when it names none."""
        found = _PLACE.fullmatch(number) if isinstance(number, str) else None
        return cls(int(found[1]), int(found[2])) if found else None

    @classmethod
    def of_line(cls, line: str) -> Self | None:
        """The place of the entry that a log line was rendered from; None when it is no line of ours."""
        if not line.startswith(LINE_BEGINS):
            return None
        try:
            return cls.read(json.loads(line).get("id"))
        except ValueError:
            return None

    @property
    def number(self) -> str:
        """The entry's number, as the store writes it."""
        return f"{self.ms}-{self.sequence}"

    @property
    def before(self) -> "Position":
        """The place right before it."""
        return Position(self.ms, self.sequence - 1) if self.sequence else Position(self.ms - 1, _LAST_SEQUENCE)


START = Position(0, 0)
"""Before every entry."""


@dataclass(frozen=True, slots=True)
class Page:
    """Lines that follow each other, and the place of the last entry read for them."""

    text: str
    lines: int
    last: Position


def render(log: Log, place: Position, entry: Mapping[str, str]) -> str | None:
    """The line of an entry in a log, with its line end; None when that log has none of it."""
    name = entry.get("event", "")
    if log is Log.PAYMENTS:
        return None if name.startswith(_LEDGER) else _line(
            place, name, {field: _value(field, entry) for field in _PAYMENT_FIELDS})
    if name.startswith(_LEDGER):
        return _line(place, "revenue", {field: _value(field, entry) for field in _REVENUE_FIELDS})
    path = entry.get("path", "")
    shown = path if _PLAIN_PATH.fullmatch(path) else None  # the caller wrote it, and might have put an address in it
    return _line(place, _API_CALL, {"method": entry.get("method"), "path": shown,
                                    "status": _value("status_code", entry), "ms": _value("ms", entry),
                                    "job_id": entry.get("job_id")})


def gap(after: Position, first: Position) -> str:
    """The line for entries that were trimmed before they could be written; the next one goes on with `first`."""
    return _line(first.before, "gap", {"after": after.number})


def _line(place: Position, name: str, shown: Mapping[str, Any]) -> str:
    line = {"ts": timestamp(place.ms), "event": name, **shown, "id": place.number}
    return json.dumps(line, separators=(",", ":")) + "\n"


def _value(field: str, entry: Mapping[str, str]) -> Any:
    value = entry.get(field)
    if value is None or field not in _NUMBERS:
        return value
    return int(value) if _NUMBER.fullmatch(value) else None


class Events:
    """Reads the streams as the logs' lines, and adds API calls."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    async def pages(self, log: Log, after: Position) -> AsyncIterator[Page]:
        """The log's lines behind a position, a page at a time, up to now.

        If entries right behind it were trimmed, a `gap` line stands in for them.
        """
        while True:
            # A round trip of its own: a page that shared one with payments would make them wait for its reading.
            found = await self._calls.call("XRANGE", ROOT + log.stream, after.number, "+", "COUNT", PAGE + 1)
            entries = [(Position(*map(int, number.split("-"))), entry) for number, entry in found]
            if entries and entries[0][0] == after:
                trimmed = False
                del entries[0]
            else:
                trimmed = bool(entries) and after != START and entries[0][0].before != after
            if not entries:
                return
            lines = [line for place, entry in entries if (line := render(log, place, entry)) is not None]
            if trimmed:
                lines.insert(0, gap(after, entries[0][0]))
            after = entries[-1][0]
            yield Page("".join(lines), len(lines), after)

    async def newest(self, log: Log) -> Position | None:
        """The last entry of what a log is rendered from; None when there is none."""
        found = await self._calls.call("XREVRANGE", ROOT + log.stream, "+", "-", "COUNT", 1)
        return Position.read(found[0][0]) if found else None

    async def add_calls(self, calls: Iterable[Mapping[str, str]]) -> None:
        """Add API calls (`method`, `path`, `status_code`, `ms`, `job_id`), in one round trip.

        Raises StoreUnavailable, StoreFull: what is not added by then is lost.
        """
        entries = [["event", _API_CALL, *(part for pair in call.items() for part in pair)] for call in calls]
        # A page at a time: the store does nothing else while it runs a script.
        await asyncio.gather(*(self._calls.script("log_calls", REVENUE_KEPT, json.dumps(entries[start:start + PAGE]))
                               for start in range(0, len(entries), PAGE)))
