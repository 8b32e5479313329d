"""`paydesk stats`: what the books of a running desk hold."""

import sys
from typing import Annotated

import typer

from cli.desk_client import DeskClient, JsonOption, KeyOption, UrlOption
from cli.tables import write_table
from shared.jobs import Book
from shared.money import dollars_text

EXAMPLE = "paydesk stats --book mock"


def stats(*, book: Annotated[Book | None, typer.Option(help="Only this book.")] = None, url: UrlOption = None,
          api_key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Show revenue and counts. A column for each book: real money and the mock's are never added up."""
    reply = DeskClient.open(url, api_key, as_json=as_json).get("/api/stripe/stats", {"book": book and book.value})
    if as_json:
        sys.stdout.write(f"{reply.text}\n")
        return
    says = reply.says
    books = says["books"]
    write_table([
        ("processed USD", *(dollars_text(entry["processed_cents"]) for entry in books.values())),
        ("refunded USD", *(dollars_text(entry["refunded_cents"]) for entry in books.values())),
        ("succeeded", *(str(entry["succeeded"]) for entry in books.values())),
        ("failed", *(str(entry["failed"]) for entry in books.values()))], ("", *books))
    sys.stdout.write("\n")
    answered_by = "the mock" if says["mock_mode"] else f"Stripe, key {says['stripe_account']}"
    unfinished = ", ".join(f"{count} {status}" for status, count in says["jobs"].items() if count)
    write_table([("answered by", answered_by), ("unfinished jobs", unfinished or "none"), ("as of", says["as_of"])])
