"""The statistics: sums that the books keep, told in dollars; they cost the same however many payments there were."""

import asyncio
import time
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from api import deps, openapi
from api.answers import answer
from api.body import read_query, refused_parameter
from shared.jobs import UNFINISHED, Book, Mode, Status, timestamp
from shared.ledger import Totals
from shared.money import dollars_number
from shared.settings import Fallback, Settings

STATS = "/api/stripe/stats"


def add_routes(app: FastAPI) -> None:
    """Add the route of the statistics."""
    app.add_api_route(STATS, get_stats, methods=["GET"], **openapi.GET_STATS)


async def get_stats(request: Request) -> Response:
    """Sums and counts of the current key's book and the mock's, always also apart; with `book`, of that book alone."""
    desk = deps.desk(request)
    book = _book(read_query(request, ("book",)).get("book"))
    totals, jobs, reach = await desk.ask(_look, desk)
    is_mock = desk.settings.mode is Mode.NONE or (reach and desk.settings.stripe_fallback is Fallback.MOCK)
    money = _of_desk(totals, desk.settings) if book is None else _of_book(totals, book)
    return answer({
        **money, "stripe_account": desk.settings.shown_key, "mock_mode": is_mock,
        "books": {name: _book_entry(totals[name]) for name in Book if book in (None, name)},
        "jobs": {status: jobs[status] for status in UNFINISHED}, "as_of": timestamp(time.time_ns() // 1_000_000)})


async def _look(desk: deps.Desk) -> tuple[dict[Book, Totals], dict[Status, int], bool]:
    totals, jobs, reach = await asyncio.gather(desk.ledger.totals(), desk.store.counts(), desk.circuit.look())
    return totals, jobs, reach.open


def _book(given: str | None) -> Book | None:
    if given is None:
        return None
    try:
        return Book(given)
    except ValueError:
        raise refused_parameter("book", f"Choose one of: {', '.join(Book)}.") from None


def _of_desk(totals: dict[Book, Totals], settings: Settings) -> dict[str, Any]:
    """The key's own book is the real one; without a key there is none."""
    real = Totals() if settings.book is Book.MOCK else totals[settings.book]
    return _money(real, totals[Book.MOCK], own=real)


def _of_book(totals: dict[Book, Totals], book: Book) -> dict[str, Any]:
    only, nothing = totals[book], Totals()
    return _money(nothing, only, own=only) if book is Book.MOCK else _money(only, nothing, own=only)


def _money(real: Totals, mock: Totals, *, own: Totals) -> dict[str, Any]:
    succeeded, failed = real.succeeded + mock.succeeded, real.failed + mock.failed
    return {
        "total_processed_usd": dollars_number(real.processed_cents + mock.processed_cents),
        "successful_payments": succeeded, "failed_payments": failed, "success_rate": success_rate(succeeded, failed),
        "real_processed_usd": dollars_number(real.processed_cents),
        "mock_processed_usd": dollars_number(mock.processed_cents),
        "refunded_usd": dollars_number(own.refunded_cents), "net_usd": dollars_number(own.net_cents)}


def success_rate(succeeded: int, failed: int) -> float:
    """Percent with one decimal, rounded half up from whole numbers; 0.0 when there was nothing."""
    total = succeeded + failed
    if total == 0:
        return 0.0
    tenths = (succeeded * 2000 + total) // (2 * total)
    return float(f"{tenths // 10}.{tenths % 10}")


def _book_entry(totals: Totals) -> dict[str, int]:
    return {"processed_cents": totals.processed_cents, "refunded_cents": totals.refunded_cents,
            "succeeded": totals.succeeded, "failed": totals.failed}
