"""Every setting, typed, read once by the composition roots; the only file that reads the environment."""

import contextlib
import hashlib
import ipaddress
import math
import os
import re
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared import failpoints
from shared.errors import SettingsRefused
from shared.jobs import Book, Mode

STRIPE_API_BASE = "https://api.stripe.com"
STRIPE_API_VERSION = "2026-10-28.endive"
"""Pinned: the version whose parameters stripe_params.py writes and that stripe-python 16.1 speaks."""

SHOWN_KEY_CHARACTERS = 12
"""How much of the Stripe key `stats` shows: the account part, which a publishable key shows too."""


_LIVE_PREFIXES = ("sk_live_", "rk_live_")
_KEY_SHAPE = re.compile(r"[sr]k_(?:test|live)_[A-Za-z0-9_]*[A-Za-z0-9]", re.ASCII)


FLOWER_PASSWORD_FILE = "flower_password"  # noqa: S105  # the name of its file
"""In the data directory, when FLOWER_PASSWORD is not set."""


class Fallback(StrEnum):
    """What becomes of a job when Stripe provably cannot be reached."""

    MOCK = "mock"
    """Answered by the mock, marked and booked apart."""
    DEFER = "defer"
    """Kept waiting for the network."""


def _seconds_or_off(value: object) -> object:
    return None if value == "off" else value


def _comma_list(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Settings(BaseSettings):
    """What one process of the desk may know of its surroundings; immutable. None means "not set"."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True,
                                      populate_by_name=True, hide_input_in_errors=True)

    stripe_secret_key: SecretStr | None = None
    stripe_webhook_secret: SecretStr | None = None
    stripe_api_base: str = STRIPE_API_BASE
    stripe_fallback: Fallback = Fallback.MOCK
    stripe_rate_per_second: float = Field(default=20.0, gt=0, le=100_000)
    """Calls to Stripe a second, over all workers. 20 stays below the 25 a second that Stripe allows an endpoint and a
    sandbox (docs.stripe.com/rate-limits, read 2026-04-30)."""
    mock_pays_after_seconds: Annotated[float | None, BeforeValidator(_seconds_or_off)] = Field(
        default=2.0, ge=0, le=86_400)
    """When the simulated customer pays a mock intent; None (`off`): never."""

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/1")

    host: str = Field(default="127.0.0.1", validation_alias="PAYDESK_HOST")
    port: int = Field(default=8000, ge=0, le=65535, validation_alias=AliasChoices("PAYDESK_PORT", "PORT"))
    data_dir: Path = Field(default=Path(".paydesk"), validation_alias="PAYDESK_DATA_DIR")
    secret: SecretStr | None = Field(default=None, validation_alias="PAYDESK_SECRET")
    """The instance secret that all ids derive from; None: read from, or made in, the data directory."""
    open: bool = Field(default=False, validation_alias="PAYDESK_OPEN")
    """Listen beyond loopback although there are no API keys."""
    failpoints: str = Field(default="", validation_alias="PAYDESK_FAILPOINTS")
    """Where to stop on purpose, for tests: see shared/failpoints.py. Refused with a live key."""
    worker_threads: int = Field(default=16, ge=2, le=256, validation_alias="PAYDESK_WORKER_THREADS")
    """Hints that one worker process holds at a time."""
    lease_seconds: float = Field(default=60.0, ge=1, le=3600, validation_alias="PAYDESK_LEASE_SECONDS")
    """How long a worker may be silent about a job before another takes it over; well over every call's deadline."""
    reconcile_seconds: Annotated[float | None, BeforeValidator(_seconds_or_off)] = Field(
        default=600.0, ge=60, le=86_400, validation_alias="PAYDESK_RECONCILE_SECONDS")
    """How often workers compare what is new at Stripe with the records; None (`off`): only when somebody asks."""
    url: str | None = Field(default=None, validation_alias="PAYDESK_URL")
    """The desk that the command line asks; None: the one that serves on `port` of this machine."""
    api_key: SecretStr | None = Field(default=None, validation_alias="PAYDESK_API_KEY")
    """What the command line shows a desk that wants to know who asks."""

    log_dir: Path | None = None
    cors_origins: Annotated[list[str], NoDecode, BeforeValidator(_comma_list)] = ["*"]
    flower_host: str = Field(default="127.0.0.1", validation_alias="FLOWER_ADDRESS")
    flower_port: int = Field(default=5555, ge=0, le=65535)
    flower_user: str = "paydesk"
    flower_password: SecretStr | None = None

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment and `.env`, once. Raises SettingsRefused with one sentence that names what is wrong."""
        try:
            settings = cls(**overrides)  # type: ignore[arg-type]  # checked by pydantic itself
        except ValidationError as invalid:
            faults = "; ".join(f"{'.'.join(str(part) for part in error['loc']).upper()}: {error['msg']}"
                               for error in invalid.errors(include_input=False, include_url=False))
            raise SettingsRefused(f"Settings cannot be used: {faults}.") from None
        settings.check()
        return settings

    def check(self) -> None:
        """Raise SettingsRefused, with the sentence that mends it, for what the desk must not start with."""
        key = self._key()
        if key and _KEY_SHAPE.fullmatch(key) is None:
            raise SettingsRefused("STRIPE_SECRET_KEY must be a secret or restricted Stripe key (sk_test_…, rk_test_…, "
                                  "sk_live_… or rk_live_…); leave it empty to run in mock mode.")
        self._check_failpoints()
        if self.mode is Mode.LIVE:
            raise SettingsRefused("STRIPE_SECRET_KEY is a live key, and this version has no API keys to protect it; "
                                  "use a test key (sk_test_…), or none for mock mode.")
        if any(mark in self.flower_user for mark in ":,") or "," in self._flower_password():
            raise SettingsRefused("FLOWER_USER and FLOWER_PASSWORD must not contain a comma, nor FLOWER_USER a colon.")
        if not self._base_is_allowed():
            raise SettingsRefused(f"STRIPE_API_BASE must be {STRIPE_API_BASE} or an address on loopback.")
        if not self.open and not is_loopback(self.host):
            raise SettingsRefused("PAYDESK_HOST is not a loopback address and there are no API keys; "
                                  "use 127.0.0.1, or set PAYDESK_OPEN=1 to let anyone who can connect make charges.")

    def _check_failpoints(self) -> None:
        if self.failpoints and self.mode is Mode.LIVE:
            raise SettingsRefused("PAYDESK_FAILPOINTS stops the desk on purpose, so it is refused with a live key: "
                                  "unset it.")
        try:
            failpoints.read(self.failpoints)
        except ValueError as wrong:
            raise SettingsRefused(f"PAYDESK_FAILPOINTS cannot be used: {wrong}") from None

    def _base_is_allowed(self) -> bool:
        """A name under .invalid never resolves (RFC 2606), so it can stand for "no network"."""
        try:
            base = urlsplit(self.stripe_api_base)
            host, _ = base.hostname or "", base.port
        except ValueError:  # no address at all
            return False
        if base.scheme not in ("http", "https"):
            return False
        return self.stripe_api_base == STRIPE_API_BASE or is_loopback(host) or host.endswith(".invalid")

    def _flower_password(self) -> str:
        return self.flower_password.get_secret_value() if self.flower_password else ""

    def _key(self) -> str:
        return self.stripe_secret_key.get_secret_value() if self.stripe_secret_key else ""

    @property
    def mode(self) -> Mode:
        """What a job accepted now is made for: the kind of the key, `none` without one."""
        if not self._key():
            return Mode.NONE
        return Mode.LIVE if self._key().startswith(_LIVE_PREFIXES) else Mode.TEST

    @property
    def hinted_per_second(self) -> float:
        """How fast hints are worked at least: the budget's pace, or, where nobody is called, no limit."""
        return math.inf if self.mode is Mode.NONE else self.stripe_rate_per_second

    @property
    def book(self) -> Book:
        """Where money that moves now is booked when Stripe moves it; the mock's book without a key."""
        return {Mode.LIVE: Book.LIVE, Mode.TEST: Book.TEST, Mode.NONE: Book.MOCK}[self.mode]

    @property
    def account(self) -> str:
        """The Stripe account that the key belongs to, as far as the key tells; "" without a key.

        A key that begins `sk_test_51` carries 16 characters of its account's id after that; any other is known by a
        fingerprint, so that changing it counts as another account.
        """
        if not self._key():
            return ""
        body = self._key().split("_", 2)[2]
        if body.startswith("51") and len(body) >= 40:
            return f"acct_{body[1:17]}"
        return f"key_{hashlib.sha256(self._key().encode()).hexdigest()[:16]}"

    @property
    def shown_key(self) -> str | None:
        """What `stats` shows of the key: its first 12 characters and dots, the prefix alone when the key is short."""
        key = self._key()
        if not key:
            return None
        shown = SHOWN_KEY_CHARACTERS if len(key) >= 2 * SHOWN_KEY_CHARACTERS else len("sk_test_")
        return f"{key[:shown]}..."

    def instance_secret(self) -> str:
        """The secret that ids derive from: PAYDESK_SECRET, else the file `secret` in the data directory, made once."""
        if self.secret is not None:
            return self.secret.get_secret_value()
        return kept_secret(self.data_dir / "secret")

    def flower_credentials(self) -> tuple[str, str]:
        """Flower's user and password: FLOWER_PASSWORD, else the one in the data directory, made once."""
        if self.flower_password is not None:
            return self.flower_user, self.flower_password.get_secret_value()
        return self.flower_user, kept_secret(self.data_dir / FLOWER_PASSWORD_FILE)


def kept_secret(file: Path) -> str:
    """The secret in a file that only this user reads, made at the first call. Processes that race get the same one."""
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):  # another process was first: then its secret is the one
            os.link(draft, file)
        draft.unlink()
    found = file.read_text().strip()
    if not found:
        raise SettingsRefused(f"{file} is empty: restore the secret that was in it; without it ids change.")
    return found


def is_loopback(host: str) -> bool:
    """Whether a host name or address stands for this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def process_environment(**changes: str) -> dict[str, str]:
    """This process's environment with changes, for starting a process of the desk."""
    return {**os.environ, **changes}
