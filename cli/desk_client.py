"""Asks a running desk over HTTP, and gives its answers as they came; a fault is one sentence and an exit code."""

import http.client
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import typer

from cli.tables import printable
from shared.errors import PaydeskError, SettingsRefused
from shared.settings import Settings

ANSWER_SECONDS = 10.0
"""How long a desk may take for an answer, beside what it was asked to wait."""

_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")

UrlOption = Annotated[str | None, typer.Option("--url", metavar="URL", help="The desk to ask; PAYDESK_URL, else this "
                                                                            "machine's, at PAYDESK_PORT.")]
KeyOption = Annotated[str | None, typer.Option("--api-key", metavar="KEY", help=(
    "An API key of that desk; better in PAYDESK_API_KEY, since other users of this machine see arguments."))]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the JSON as the desk gave it.")]


class DeskUnreachable(PaydeskError):
    """No desk answered, or it cannot answer now. Exit code 4."""

    code = "desk_unreachable"


class DeskRefused(PaydeskError):
    """The desk answered with a problem; the message is its sentence. Exit code 1."""

    code = "desk_refused"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a body in JSON: the text as it came, and what it says, its decimals exact."""

    status: int
    text: str
    says: dict[str, Any]


class DeskClient:
    """One desk, asked one thing at a time. With `as_json`, a refusal's JSON goes to stdout before its error is raised.

    Knows no proxy and follows no redirect: a charge goes where it was told to go, or nowhere.
    """

    def __init__(self, base: SplitResult, api_key: str | None, *, as_json: bool) -> None:
        self._base = base
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self.as_json = as_json

    @classmethod
    def open(cls, url: str | None, api_key: str | None, *, as_json: bool) -> "DeskClient":
        """The desk that the options name, else the settings. Nothing is sent yet. Raises BadParameter for an option
        that cannot be used, SettingsRefused for such a setting."""
        settings = Settings.load()
        key = api_key or (settings.api_key.get_secret_value() if settings.api_key else None)
        base = _base(url or settings.url or f"http://127.0.0.1:{settings.port}")
        if base is None:
            raise _unusable(url, "--url", "PAYDESK_URL", "must be an address like http://127.0.0.1:8000")
        if key is not None and not _VISIBLE.fullmatch(key):
            raise _unusable(api_key, "--api-key", "PAYDESK_API_KEY", "must be visible ASCII characters")
        return cls(base, key, as_json=as_json)

    def get(self, path: str, query: Mapping[str, object] | None = None, *, wait_seconds: float = 0) -> Reply:
        """Ask for something; parameters that are None are left out. Raises DeskUnreachable, DeskRefused."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path, None, {}, wait_seconds)

    def post(self, path: str, body: Mapping[str, object], *, idempotency_key: str) -> Reply:
        """Submit something under a key, so that it may be sent again. Raises DeskUnreachable, DeskRefused."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        return self._ask("POST", path, json.dumps(body), headers, 0)

    def _ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str], wait_seconds: float) -> Reply:
        kind = http.client.HTTPSConnection if self._base.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._base.hostname or "", self._base.port, timeout=ANSWER_SECONDS + wait_seconds)
        try:
            connection.request(method, self._base.path.rstrip("/") + path, body, {**self._headers, **headers})
            response = connection.getresponse()
            status, raw = response.status, response.read()
        except (OSError, http.client.HTTPException) as failed:
            reason = "no answer in time" if isinstance(failed, TimeoutError) else _reason(failed)
            raise DeskUnreachable(f"No desk answers at {self._shown} ({reason}): start it with `paydesk up`, or say "
                                  "where it is with --url.") from None
        finally:
            connection.close()
        return self._read(status, raw)

    def _read(self, status: int, raw: bytes) -> Reply:
        try:
            text = raw.decode()
            says = json.loads(text, parse_float=Decimal)
        except ValueError:
            says = None
        if not isinstance(says, dict):
            raise DeskUnreachable(f"What answers at {self._shown} is not a desk (status {status}).")
        if status < HTTPStatus.MULTIPLE_CHOICES:
            return Reply(status, text, says)
        if self.as_json:
            sys.stdout.write(f"{text}\n")
        sentence = printable(str(says.get("detail", "The desk refused.")))
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise DeskUnreachable(f"The desk cannot do this now: {sentence}")
        raise DeskRefused(_with_fields(sentence, says.get("errors")))

    @property
    def _shown(self) -> str:
        """Its address without a user name or password that may be in it."""
        return f"{self._base.scheme}://{self._base.netloc.rpartition('@')[2]}"


def _with_fields(sentence: str, errors: object) -> str:
    """Which fields were refused, and why; a problem without any says it in its own sentence."""
    faults = [fault for fault in errors if isinstance(fault, dict)] if isinstance(errors, list) else []
    if not faults:
        return sentence
    return printable(" ".join(f"{str(fault.get('pointer', '')).removeprefix('/') or 'request'}: "
                              f"{fault.get('message', '')}" for fault in faults))


def _base(url: str) -> SplitResult | None:
    try:
        base = urlsplit(url)
        base.port  # noqa: B018  # it is read from the text only now
    except ValueError:
        return None
    usable = base.scheme in ("http", "https") and base.hostname and not (base.query or base.fragment)
    return base if usable and _VISIBLE.fullmatch(url) else None


def _unusable(option: str | None, flag: str, setting: str, what: str) -> Exception:
    return SettingsRefused(f"{setting} {what}.") if option is None else typer.BadParameter(f"{flag} {what}.")


def _reason(failed: Exception) -> str:
    return (failed.strerror or type(failed).__name__) if isinstance(failed, OSError) else type(failed).__name__


def job_address(job_id: str) -> str:
    """Where a job is asked for; whatever the user gave as its id stays one part of the path."""
    return f"/api/jobs/{quote(job_id, safe='')}"


def visible(text: str, flag: str) -> str:
    """The text, if it can be a header's value. Raises BadParameter."""
    if not _VISIBLE.fullmatch(text):
        raise typer.BadParameter(f"{flag} must be 1 to 255 visible ASCII characters.")
    return text
