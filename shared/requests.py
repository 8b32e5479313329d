"""What callers may ask for: each request once, with the rule of every field; refusals carry stable codes.

A field is read from the literal text of the body (numbers arrive as `Literal`), so 0.1 never becomes a float.
"""

import hashlib
import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.card_numbers import holds_card_number
from shared.jobs import Kind
from shared.money import AmountRefused, cents_from_text


class Literal(str):
    """A JSON number as it was written."""

    __slots__ = ()


def refuse(code: str, sentence: str) -> PydanticCustomError:
    """A refusal of one field: a stable code and a sentence that never repeats the value."""
    return PydanticCustomError(code, sentence)


def _amount(value: object) -> int:
    if not isinstance(value, str) or value == "":
        raise refuse("amount_type", "The amount must be a number or a text of digits.")
    try:
        return cents_from_text(value)
    except AmountRefused as refused:
        raise refuse(refused.fault, str(refused)) from None


def _text(value: object) -> str:
    if not isinstance(value, str) or isinstance(value, Literal):
        raise refuse("text_required", "This field must be a text.")
    if _UNPRINTABLE.search(value):
        raise refuse("invalid_text", "Control characters and lone surrogates are not allowed.")
    if holds_card_number(value):
        raise refuse("card_data_refused", "This looks like a card number; never send card numbers here.")
    if _SECRET_LIKE.search(value):
        raise refuse("secret_refused", "This looks like a secret key; never send secrets here.")
    return value


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SECRET_LIKE = re.compile(r"(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{10}|whsec_[0-9A-Za-z]{10}|_secret_[0-9A-Za-z]")


def _at_most(length: int) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) > length:
            raise refuse("too_long", f"At most {length} characters are allowed.")
        return value

    return AfterValidator(check)


_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
                    r"[A-Za-z]{2,63}", re.ASCII)


def _email(value: str) -> str:
    if len(value) > 512 or _EMAIL.fullmatch(value) is None:
        raise refuse("email_invalid", "This is not an e-mail address.")
    return value


def _phone(value: str) -> str:
    if re.fullmatch(r"\+[0-9]{7,15}", value, re.ASCII) is None:
        raise refuse("phone_invalid", "A phone number is a plus sign and 7 to 15 digits.")
    return value


def _stripe_id(prefix: str) -> AfterValidator:
    shape = re.compile(rf"{prefix}_[A-Za-z0-9_]{{1,64}}", re.ASCII)

    def check(value: str) -> str:
        if shape.fullmatch(value) is None:
            raise refuse("id_format", f"This id begins with {prefix}_ and has up to 64 letters, digits or _ after it.")
        return value

    return AfterValidator(check)


def _currency(value: object) -> str:
    if value != "usd":
        raise refuse("currency_unsupported", 'The only currency is "usd".')
    return "usd"


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise refuse("metadata_type", "Metadata must be an object of texts.")
    if len(value) > 45:
        raise refuse("metadata_limit", "Metadata may have at most 45 keys.")
    for key, text in value.items():
        _text(key)
        if not 1 <= len(key) <= 40 or "[" in key or "]" in key:
            raise refuse("metadata_limit", "A metadata key has 1 to 40 characters and no brackets.")
        if key.startswith("paydesk_"):
            raise refuse("metadata_reserved", "Metadata keys beginning with paydesk_ are reserved.")
        if len(_text(text)) > 500:
            raise refuse("metadata_limit", "A metadata value has at most 500 characters.")
    return value


Amount = Annotated[int, BeforeValidator(_amount), WithJsonSchema(
    {"anyOf": [{"type": "number", "minimum": 0.5, "maximum": 999999.99, "multipleOf": 0.01},
               {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,2})?$"}],
     "description": "US dollars, 0.50 to 999999.99, at most two decimals.", "examples": [25.50]})]
Text = Annotated[str, BeforeValidator(_text)]
Email = Annotated[Text, AfterValidator(_email), WithJsonSchema({"type": "string", "format": "email", "maxLength": 512})]
Phone = Annotated[Text, AfterValidator(_phone), WithJsonSchema({"type": "string", "pattern": r"^\+[0-9]{7,15}$"})]
Description = Annotated[Text, _at_most(1000), WithJsonSchema({"type": "string", "maxLength": 1000})]
Name = Annotated[Text, _at_most(256), WithJsonSchema({"type": "string", "maxLength": 256})]
Currency = Annotated[str, BeforeValidator(_currency), WithJsonSchema({"type": "string", "const": "usd"})]
Metadata = Annotated[dict[str, str], BeforeValidator(_metadata), WithJsonSchema(
    {"type": "object", "maxProperties": 45, "additionalProperties": {"type": "string", "maxLength": 500},
     "propertyNames": {"maxLength": 40, "pattern": r"^[^\[\]]+$"}})]


def _id_schema(prefix: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{prefix}_[A-Za-z0-9_]{{1,64}}$"})


PaymentMethodId = Annotated[Text, _stripe_id("pm"), _id_schema("pm")]
CustomerId = Annotated[Text, _stripe_id("cus"), _id_schema("cus")]


class Request(BaseModel):
    """A request in the caller's own fields, normalised. `kind` is the job that it asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @property
    def kind(self) -> Kind:
        raise NotImplementedError

    def normalised(self) -> dict[str, Any]:
        """The fields that were given, amounts in cents: what is stored."""
        return self.model_dump(mode="json", exclude_none=True)

    def body_hash(self) -> str:
        """What two submissions are compared by."""
        return fields_hash(self.normalised())


def fields_hash(normalised: dict[str, Any]) -> str:
    """SHA-256 of normalised fields, whatever their order was."""
    return hashlib.sha256(_sorted_json(normalised).encode()).hexdigest()


_sorted_json = json.JSONEncoder(sort_keys=True).encode


class PaymentIntentRequest(Request):
    """An intent that a customer pays later, in a browser."""

    amount_cents: Amount = Field(alias="amount")
    email: Email | None = None
    description: Description | None = None
    metadata: Metadata | None = None
    currency: Currency = "usd"

    @property
    def kind(self) -> Kind:
        return Kind.PAYMENT_INTENT


class ChargeRequest(Request):
    """A charge of a payment method, made at once."""

    amount_cents: Amount = Field(alias="amount")
    payment_method_id: PaymentMethodId
    email: Email | None = None
    description: Description | None = None
    customer_id: CustomerId | None = None
    metadata: Metadata | None = None
    currency: Currency = "usd"

    @property
    def kind(self) -> Kind:
        return Kind.CHARGE


class CustomerRequest(Request):
    """A customer at Stripe."""

    email: Email
    name: Name | None = None
    phone: Phone | None = None
    metadata: Metadata | None = None

    @property
    def kind(self) -> Kind:
        return Kind.CUSTOMER
