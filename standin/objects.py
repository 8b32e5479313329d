"""What the objects have in common: ids, lists, effects, and the call they are made by."""

from __future__ import annotations

from dataclasses import dataclass, field

from standin import params as read
from standin.clock import Clock
from standin.errors import ApiError, Json, missing
from standin.outbox import Outbox
from standin.records import Effect, EffectKind, Kind, Page, Record, Store

JOB_ID = "paydesk_job_id"


@dataclass(frozen=True, slots=True)
class Call:
    """One execution: for whom, under which key, with which parameters, against which store.

    Without a request id it was nobody's call: a customer, a bank or the time did it.
    """

    store: Store
    clock: Clock
    outbox: Outbox
    account: str
    key: str | None = None
    params: Json = field(default_factory=dict)
    request_id: str | None = None

    @property
    def created(self) -> int:
        """Give the second that a new object carries."""
        return int(self.clock.now())

    def effect(self, kind: EffectKind, body: Json, amount: int | None) -> None:
        """Note that this object came to be, or that this much money moved."""
        self.store.add_effect(
            Effect(
                account=self.account,
                key=self.key,
                object_id=body["id"],
                kind=kind,
                amount=amount,
                status=body.get("status"),
                payment_intent=body.get("payment_intent"),
                job_id=body["metadata"].get(JOB_ID),
                created=self.clock.now(),
            )
        )

    def find(self, kind: Kind, name: str, *, noun: str, param: str, status: int = 404) -> Record:
        """Give the account's own object, or `resource_missing`."""
        record = self.store.get(self.account, name)
        if record is None or record.kind is not kind:
            raise missing(noun, name, param=param, status=status)
        return record


LIST_READERS: dict[str, read.Reader] = {
    "created": read.created,
    "ending_before": read.not_played,
    "expand": read.not_played,
    "limit": read.limit,
    "starting_after": read.name_of_object,
}


def list_objects(call: Call, kind: Kind, url: str, lookups: tuple[str, ...]) -> Json:
    """Give a page of the account's objects, newest first; at once consistent."""
    asked = read.read(call.params, {**LIST_READERS, **dict.fromkeys(lookups, read.name_of_object)})
    after = asked.get("starting_after")
    if after is not None:
        call.find(kind, after, noun=kind.value, param="starting_after", status=400)
    low, high = asked.get("created", (0, read.INTEGER_MAX))
    found_by = tuple(asked[name] for name in lookups if name in asked)
    return give_page(call, url, Page(kind, asked.get("limit", 10), found_by, low, high, after))


def give_page(call: Call, url: str, page: Page) -> Json:
    """Give a page as Stripe words a list."""
    found = call.store.page(call.account, page)
    data = [record.body for record in found[: page.limit]]
    return {"object": "list", "url": url, "has_more": len(found) > page.limit, "data": data}


def only_known(call: Call) -> None:
    """Refuse any parameter, for the calls that take none."""
    read.read(call.params, {"expand": read.not_played})


def account_body(call: Call) -> Json:
    """Give the account that the key belongs to."""
    only_known(call)
    return {
        "id": call.account,
        "object": "account",
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "email": "desk@example.com",
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    }


def balance_body(call: Call) -> Json:
    """Give the money moved so far, all of it pending."""
    only_known(call)
    cents = call.store.balance(call.account)
    money = {"currency": "usd", "source_types": {"card": 0}}
    return {
        "object": "balance",
        "available": [{"amount": 0, **money}],
        "livemode": False,
        "pending": [{"amount": cents, "currency": "usd", "source_types": {"card": cents}}],
    }


def exclusive(params: Json, first: str, second: str) -> None:
    """Refuse two parameters that exclude each other."""
    if first in params and second in params:
        raise ApiError(
            400, f"You may only specify one of these parameters: {first}, {second}.", code="parameters_exclusive"
        )
