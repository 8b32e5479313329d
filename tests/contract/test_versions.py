"""The pins that the contract was read for; raising one means reading it again."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import stripe
from stripe._api_version import _ApiVersion  # the SDK shows the version it speaks nowhere else

from shared.settings import STRIPE_API_VERSION
from standin.client import Standin
from standin.events import API_VERSION
from tests.contract.schema import load
from tests.standin.asking import Asker

SDK = "16.1.0"


def test_the_sdk_is_the_one_that_was_read() -> None:
    assert stripe.VERSION == version("stripe") == SDK
    pinned = (Path(__file__).parents[2] / "requirements" / "runtime.in").read_text()
    assert re.findall(r"^stripe==(.*)$", pinned, re.MULTILINE) == [SDK]


def test_desk_sdk_and_stand_in_speak_one_version() -> None:
    assert _ApiVersion.CURRENT == STRIPE_API_VERSION == API_VERSION


def test_the_stand_in_answers_and_tells_in_it(standin: Standin, ask: Asker) -> None:
    assert ask.create().headers["stripe-version"] == STRIPE_API_VERSION
    assert ask.get("/v1/events").body["data"][0]["api_version"] == STRIPE_API_VERSION


def test_the_published_schema_is_overlaid_with_this_sdk() -> None:
    intent = load("stripe-openapi-subset.json")["components"]["schemas"]["payment_intent"]
    added = {shape["x-added-from"] for shape in intent["properties"].values() if "x-added-from" in shape}
    assert added == {f"stripe-python {SDK} ({STRIPE_API_VERSION})"}
