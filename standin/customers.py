"""Customers: e-mail is not unique, so every create makes one."""

from __future__ import annotations

import secrets

from standin import params as read
from standin.errors import Json
from standin.events import Type, emit
from standin.objects import Call, list_objects, only_known
from standin.records import EffectKind, Kind, Record

_READERS: dict[str, read.Reader] = {
    "description": read.text(read.CUSTOMER_DESCRIPTION_MAX),
    "email": read.email,
    "metadata": read.metadata,
    "name": read.text(256),
    "phone": read.text(20),
    **dict.fromkeys(
        (
            "address",
            "balance",
            "business_name",
            "cash_balance",
            "expand",
            "individual_name",
            "invoice_prefix",
            "invoice_settings",
            "next_invoice_sequence",
            "payment_method",
            "preferred_locales",
            "shipping",
            "source",
            "tax",
            "tax_exempt",
            "tax_id_data",
            "test_clock",
            "validate",
        ),
        read.not_played,
    ),
}


def create(call: Call) -> Json:
    """Make a customer, whether or not one with this address exists."""
    asked = read.read(call.params, _READERS)
    body: Json = {
        "id": call.store.new_id("cus"),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": call.created,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": asked.get("description"),
        "discount": None,
        "email": asked.get("email"),
        "invoice_prefix": secrets.token_hex(4).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": asked.get("metadata", {}),
        "name": asked.get("name"),
        "next_invoice_sequence": 1,
        "phone": asked.get("phone"),
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }
    call.store.put(Record(call.account, body["id"], Kind.CUSTOMER, body["created"], body["email"], body))
    call.effect(EffectKind.CUSTOMER, body, None)
    emit(call, Type.CUSTOMER_CREATED, body)
    return body


def retrieve(call: Call, name: str) -> Json:
    """Give one customer."""
    only_known(call)
    return call.find(Kind.CUSTOMER, name, noun="customer", param="id").body


def list_all(call: Call) -> Json:
    """Give customers, newest first; `email` is exact and case-sensitive."""
    return list_objects(call, Kind.CUSTOMER, "/v1/customers", ("email",))
