"""The streams of what happened, and the log lines that they render to: the same bytes whenever they are rendered.

Two streams: `events` (every change of a job, a payment or the books, written by the scripts in the same step) and
`calls` (API calls, best effort). A log's lines come in one order, by entry number and stream, so that a log can be
followed, resumed after its last whole line, and rebuilt.
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from shared.jobs import timestamp
from shared.redis_calls import ROOT, RedisCalls

CALLS_KEPT = 200_000
"""API calls kept for the log; older ones are trimmed."""
_PAGE = 1_000
_PAYMENT_FIELDS = ("job_id", "kind", "status", "amount_cents", "currency", "book", "payment_intent_id", "error_code")
_REVENUE_FIELDS = ("amount_cents", "currency", "book", "total_cents", "job_id", "payment_intent_id")
_NUMBERS = frozenset({"amount_cents", "total_cents", "status_code", "ms"})


class Stream(StrEnum):
    """Where entries come from. Their order here breaks ties between entries of one number."""

    EVENTS = "events"
    CALLS = "calls"


class Log(StrEnum):
    """The two log files, by name."""

    PAYMENTS = "stripe_payment_log.txt"
    """A line per change of a job or a payment."""
    REVENUE = "api_revenue_log.txt"
    """A line per API call and per ledger entry."""

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What it is rendered from."""
        return (Stream.EVENTS,) if self is Log.PAYMENTS else (Stream.EVENTS, Stream.CALLS)


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A place in a log's order of entries."""

    ms: int
    sequence: int
    stream: int

    @classmethod
    def of(cls, number: str, stream: Stream) -> Self:
        """The place of an entry."""
        ms, _, sequence = number.partition("-")
        return cls(int(ms), int(sequence), list(Stream).index(stream))

    @classmethod
    def of_line(cls, line: str) -> Self | None:
        """The place of the entry that a log line was rendered from; None when it is no line of ours."""
        try:
            said = json.loads(line)
            return cls.of(said["id"], Stream.CALLS if said["event"] == "api_call" else Stream.EVENTS)
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def number(self) -> str:
        """Its entry number."""
        return f"{self.ms}-{self.sequence}"


START = Position(0, 0, -1)
"""Before every entry."""


def render(log: Log, stream: Stream, number: str, entry: Mapping[str, str]) -> str | None:
    """The line of an entry in a log, with its line end; None when that log has none of it."""
    name = entry["event"]
    revenue = name.startswith("ledger.")
    if stream is Stream.CALLS:
        shown = {"method": entry.get("method"), "path": entry.get("path"), "status": _value("status_code", entry),
                 "ms": _value("ms", entry), "job_id": entry.get("job_id")}
    elif log is Log.PAYMENTS and not revenue:
        shown = {field: _value(field, entry) for field in _PAYMENT_FIELDS}
    elif log is Log.REVENUE and revenue:
        name = "revenue"
        shown = {field: _value(field, entry) for field in _REVENUE_FIELDS}
    else:
        return None
    ms = int(number.partition("-")[0])
    return json.dumps({"ts": timestamp(ms), "id": number, "event": name, **shown}, separators=(",", ":")) + "\n"


def gap(after: Position, first: Position) -> str:
    """The line for entries that were trimmed before they could be written."""
    return json.dumps({"ts": timestamp(first.ms), "id": f"{first.ms}-{max(0, first.sequence - 1)}", "event": "gap",
                       "after": after.number}, separators=(",", ":")) + "\n"


def _value(field: str, entry: Mapping[str, str]) -> Any:
    value = entry.get(field)
    return int(value) if value is not None and field in _NUMBERS else value


class Events:
    """Reads the streams in the order of a log, and adds API calls to theirs."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    async def lines(self, log: Log, after: Position) -> AsyncIterator[list[tuple[Position, str]]]:
        """The log's lines behind a position, a page at a time, up to now.

        Only entries that nothing can come before any more are given: those older than this millisecond. So the order
        is the same whenever the log is rendered.
        """
        while True:
            page, more = await self._page(log, after)
            if page:
                yield [(place, line) for place, stream, entry in page
                       if (line := render(log, stream, place.number, entry)) is not None]
                after = page[-1][0]
            if not more:
                return

    async def _page(self, log: Log, after: Position) -> tuple[list[tuple[Position, Stream, dict[str, str]]], bool]:
        """The next entries of all the log's streams in order, and whether there may be more."""
        (seconds, microseconds), *found = await self._calls.moment(
            ("TIME",), *(("XRANGE", ROOT + stream, after.number, "+", "COUNT", _PAGE) for stream in log.streams))
        horizon = Position(seconds * 1000 + microseconds // 1000, 0, -1)
        entries = []
        for stream, page in zip(log.streams, found, strict=True):
            places = [(Position.of(number, stream), stream, entry) for number, entry in page]
            if len(page) == _PAGE:  # the other streams must not run ahead of what this one has not shown yet
                horizon = min(horizon, places[-1][0])
            entries += places
        ready = sorted((entry for entry in entries if after < entry[0] < horizon), key=lambda entry: entry[0])
        return ready, bool(ready) and any(len(page) == _PAGE for page in found)

    async def first(self, log: Log) -> Position | None:
        """The oldest entry that is still kept of what a log is rendered from; None when there is none."""
        pages = [await self._calls.call("XRANGE", ROOT + stream, "-", "+", "COUNT", 1) for stream in log.streams]
        return min((Position.of(page[0][0], stream) for stream, page in zip(log.streams, pages, strict=True) if page),
                   default=None)

    async def kept(self, position: Position) -> bool:
        """Whether the entry at a position is still in its stream."""
        stream = list(Stream)[position.stream]
        return bool(await self._calls.call("XRANGE", ROOT + stream, position.number, position.number))

    async def add_calls(self, calls: list[dict[str, str]]) -> None:
        """Add API calls, in one round trip; lost when the store is away."""
        async with self._calls.redis.pipeline(transaction=False) as together:
            for call in calls:
                fields = (part for pair in {"event": "api_call", **call}.items() for part in pair)
                together.execute_command("XADD", ROOT + Stream.CALLS, "MAXLEN", "~", CALLS_KEPT, "*", *fields)
            await together.execute()
