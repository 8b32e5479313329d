"""`paydesk charge`: charge a payment method at a running desk."""

import sys
import uuid
from typing import Annotated

import typer

from cli.desk_client import DeskClient, DeskUnreachable, JsonOption, KeyOption, Reply, UrlOption, visible
from cli.watch import EXIT_INTERRUPTED, detaching, finish, follow, show

WAIT_SECONDS = 30
PROCESS_CHARGE = "/api/stripe/process-charge"

EXAMPLE = "paydesk charge 25.50 --payment-method pm_card_visa --idempotency-key order-1001"


def charge(amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="US dollars, 0.50 to 999999.99.")], *,
           payment_method: Annotated[str, typer.Option(metavar="PM", help="What is charged: pm_….")],
           email: Annotated[str | None, typer.Option(help="Where Stripe sends the receipt.")] = None,
           description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
           customer: Annotated[str | None, typer.Option(metavar="CUS", help="Whose it is: cus_….")] = None,
           metadata: Annotated[list[str] | None, typer.Option(metavar="K=V", help=(
               "Kept with it at Stripe; may be given more than once."))] = None,
           idempotency_key: Annotated[str | None, typer.Option(metavar="KEY", help=(
               "The same key and charge, sent again, is the same charge; without one a new one is made."))] = None,
           wait: Annotated[int | None, typer.Option(min=1, max=86_400, metavar="N", help=(
               f"Seconds to wait for its end, else {WAIT_SECONDS}."))] = None,
           no_wait: Annotated[bool, typer.Option("--no-wait", help="Only submit it; 0 when it is accepted.")] = False,
           url: UrlOption = None, api_key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Charge a payment method. Exit 0 only if the charge succeeded, 1 if it was declined or is not done in time."""
    if wait is not None and no_wait:
        raise typer.BadParameter("--wait and --no-wait exclude each other.")
    body: dict[str, object] = {"amount": amount, "payment_method_id": payment_method, "email": email,
                               "description": description, "customer_id": customer,
                               "metadata": _metadata(metadata or []) or None}
    key = visible(idempotency_key, "--idempotency-key") if idempotency_key is not None else f"cli-{uuid.uuid4()}"
    client = DeskClient.open(url, api_key, as_json=as_json)
    reply = _submit(client, {name: value for name, value in body.items() if value is not None}, key)
    if no_wait:
        show(client, reply)
        return
    with detaching(reply.says["id"]):
        finish(client, follow(client, reply, seconds=wait or WAIT_SECONDS))


def _submit(client: DeskClient, body: dict[str, object], key: str) -> Reply:
    """Submit it. If the answer does not come, it may have been accepted: say under which key it can be sent again."""
    again = f"Whether it was accepted is not known. Sent again with --idempotency-key {key} it is the same charge.\n"
    try:
        return client.post(PROCESS_CHARGE, body, idempotency_key=key)
    except DeskUnreachable:
        sys.stderr.write(again)
        raise
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{again}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _metadata(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter("--metadata is written key=value.")
        if name in found:
            raise typer.BadParameter(f"--metadata names {name} twice.")
        found[name] = value
    return found
