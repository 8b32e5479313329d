"""Stripe's lists, read strictly where a desk made what is in them: a bad object is told, and hides no other."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import pytest

from shared.jobs import Kind
from shared.results import Customer
from shared.settings import STRIPE_API_VERSION
from tests.worker.conftest import Line, Peer
from worker.processor import Gone, Listed, ListPage, Noun, Refused, Throttled, Unknown
from worker.stripe_processor import StripeProcessor

pytestmark = pytest.mark.anyio

MARKS = {"paydesk_job_id": "job_a", "paydesk_desk": "desk0", "paydesk_kind": "charge"}
INTENT: dict[str, Any] = {
    "id": "pi_1", "object": "payment_intent", "status": "succeeded", "amount": 5000, "amount_received": 5000,
    "currency": "usd", "livemode": False, "client_secret": "pi_1_secret_x", "created": 1_700_000_000,
    "metadata": MARKS}


class Lists:
    """A processor whose Stripe answers what the test says."""

    def __init__(self, peer: Peer, base: str) -> None:
        self.peer = peer
        self.stripe = StripeProcessor(api_key="sk_test_fake", api_base=base, api_version=STRIPE_API_VERSION)
        self.status, self.body = 200, ""

    async def page(self, *data: Any, has_more: bool = False, **asked: Any) -> Any:
        self.body = json.dumps({"object": "list", "data": data, "has_more": has_more})
        return await self.stripe.list_page(Noun.PAYMENT_INTENT, **{"since_ms": 1500, "until_ms": 2500, **asked})

    async def one(self, *data: Any) -> Listed:
        page = await self.page(*data)
        assert isinstance(page, ListPage)
        [listed] = page.objects
        return listed


@pytest.fixture
async def lists(peer: Peer) -> AsyncIterator[Lists]:
    async def play(line: Line) -> None:
        while True:
            await line.request()
            await line.answer(made.status, made.body.encode(), "Request-Id: req_1")

    made = Lists(peer, await peer.play(play))
    yield made
    await made.stripe.close()


async def test_a_window_is_asked_for_in_whole_seconds_that_hold_it(lists: Lists) -> None:
    await lists.page()
    await lists.page(until_ms=None, after="pi_9", limit=10)
    first, second = (unquote(raw.split(b" ")[1].decode()) for raw in lists.peer.heard)
    assert first == "/v1/payment_intents?limit=100&created[gte]=1&created[lte]=3"
    assert second == "/v1/payment_intents?limit=10&created[gte]=1&starting_after=pi_9"


async def test_what_a_desk_made_is_read_with_its_marks(lists: Lists) -> None:
    listed = await lists.one(INTENT)
    assert (listed.id, listed.created_ms, listed.job_id, listed.desk, listed.kind, listed.client_secret) == (
        "pi_1", 1_700_000_000_000, "job_a", "desk0", Kind.CHARGE, "pi_1_secret_x")
    assert listed.made is not None
    assert (listed.malformed, listed.declined) == (None, None)


async def test_what_a_no_of_the_bank_leaves_behind_is_told(lists: Lists) -> None:
    unpaid = {**INTENT, "status": "requires_payment_method", "amount_received": 0}
    listed = await lists.one({**unpaid, "last_payment_error": {"code": "expired_card", "decline_code": "expired_card"}})
    assert listed.declined is not None
    assert (listed.declined.code, listed.declined.decline_code) == ("expired_card", "expired_card")
    listed = await lists.one({**unpaid, "last_payment_error": {"code": "<b>"}})
    assert listed.declined is not None
    assert listed.declined.code == "card_declined"


@pytest.mark.parametrize("fault", [
    {"amount": "5000"}, {"amount": None}, {"amount_received": 6000}, {"status": None}, {"livemode": 0},
    {"currency": 7}, {"metadata": {**MARKS, "paydesk_job_id": "job A"}},
    {"metadata": {**MARKS, "paydesk_kind": "customer"}}, {"metadata": {**MARKS, "paydesk_kind": "x"}},
    {"metadata": {**MARKS, "paydesk_job_id": 7}}, {"metadata": ["a"]}, {"metadata": {**MARKS, "paydesk_desk": 1}},
    {"client_secret": {}}])
async def test_a_bad_object_of_a_desk_is_told_and_hides_no_other(lists: Lists, fault: dict[str, Any]) -> None:
    page = await lists.page({**INTENT, **fault}, {**INTENT, "id": "pi_2"})
    assert isinstance(page, ListPage)
    bad, good = page.objects
    assert bad.malformed
    assert (bad.id, bad.made, good.malformed) == ("pi_1", None, None)


async def test_what_nobodys_desk_made_may_be_anything(lists: Lists) -> None:
    listed = await lists.one({**INTENT, "metadata": {"order": "7"}, "amount": -1, "amount_received": "x"})
    assert (listed.malformed, listed.job_id, listed.made) == (None, None, None)


@pytest.mark.parametrize("entry", [{}, None, "pi_1", {**INTENT, "id": 7}, {**INTENT, "object": "charge"},
                                   {**INTENT, "created": "now"}])
async def test_an_entry_that_is_no_object_is_counted_and_nothing_is_gone_on_from_it(lists: Lists, entry: Any) -> None:
    page = await lists.page(INTENT, entry)
    assert isinstance(page, ListPage)
    assert ([listed.id for listed in page.objects], page.unreadable, page.last) == (["pi_1"], 1, None)
    page = await lists.page(INTENT, entry, has_more=True)
    assert isinstance(page, ListPage)
    assert ([listed.id for listed in page.objects], page.unreadable, page.last) == (["pi_1"], 0, "pi_1")
    assert isinstance(await lists.page(entry, has_more=True), Unknown)


@pytest.mark.parametrize("body", ['{"object": "list"}', '{"object": "list", "data": {}, "has_more": false}',
                                  '{"object": "list", "data": [], "has_more": "no"}', "[]", "<html>"])
async def test_what_is_no_list_is_no_answer(lists: Lists, body: str) -> None:
    lists.body = body
    assert isinstance(await lists.stripe.list_page(Noun.CUSTOMER, since_ms=0, until_ms=None), Unknown)


@pytest.mark.parametrize(("status", "outcome"), [(429, Throttled), (401, Refused), (500, Unknown)])
async def test_refusals_are_outcomes(lists: Lists, status: int, outcome: type) -> None:
    lists.status, lists.body = status, json.dumps({"error": {"type": "api_error", "message": "No."}})
    assert isinstance(await lists.stripe.list_page(Noun.CUSTOMER, since_ms=0, until_ms=None), outcome)
    assert isinstance(await lists.stripe.retrieve(Noun.CUSTOMER, "cus_1"), outcome)


async def test_one_object_is_there_or_gone(lists: Lists) -> None:
    lists.body = json.dumps(INTENT)
    found = await lists.stripe.retrieve(Noun.PAYMENT_INTENT, "pi_1")
    assert isinstance(found, Listed)
    assert isinstance(await lists.stripe.retrieve(Noun.PAYMENT_INTENT, "pi_2"), Unknown), "another one"
    asked = len(lists.peer.heard)
    assert isinstance(await lists.stripe.retrieve(Noun.PAYMENT_INTENT, "pi_mock_1"), Gone)
    assert len(lists.peer.heard) == asked
    lists.body = json.dumps({"id": "cus_1", "object": "customer", "deleted": True})
    assert isinstance(await lists.stripe.retrieve(Noun.CUSTOMER, "cus_1"), Listed), "no list shows it, but it was there"
    lists.status, lists.body = 404, json.dumps({"error": {"type": "invalid_request_error", "code": "resource_missing"}})
    assert isinstance(await lists.stripe.retrieve(Noun.CUSTOMER, "cus_1"), Gone)


async def test_a_customer_is_read_as_one(lists: Lists) -> None:
    lists.body = json.dumps({"object": "list", "has_more": False, "data": [
        {"id": "cus_1", "object": "customer", "email": None, "name": "Ann", "livemode": False, "created": 1,
         "metadata": {**MARKS, "paydesk_kind": "customer"}}]})
    page = await lists.stripe.list_page(Noun.CUSTOMER, since_ms=0, until_ms=None)
    assert isinstance(page, ListPage)
    assert page.objects[0].made == Customer(id="cus_1", email=None, name="Ann", livemode=False, job_id="job_a")
