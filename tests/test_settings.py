"""Settings: what the desk must not start with, said in one sentence without any secret."""

import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest

from shared.errors import SettingsRefused
from shared.jobs import Book, Mode
from shared.settings import Fallback, Settings, is_loopback, process_environment

KEY = "sk_test_fakeDoNotShow"
OTHER_NAMES = ("REDIS_URL", "BROKER_URL", "PORT", "LOG_DIR", "CORS_ORIGINS", "MOCK_PAYS_AFTER_SECONDS")
LONG_KEY = "sk_test_51AbcdefGHIJKLMNOP" + "x" * 80


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder without a `.env`, and none of our names in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("STRIPE_", "PAYDESK_", "FLOWER_")) or name in OTHER_NAMES:
            monkeypatch.delenv(name)


def refusal(**overrides: object) -> str:
    with pytest.raises(SettingsRefused) as refused:
        Settings.load(**overrides)
    assert refused.value.__cause__ is None
    return str(refused.value)


def test_with_nothing_set_the_desk_starts_in_mock_mode_on_loopback() -> None:
    settings = Settings.load()
    assert (settings.mode, settings.book, settings.account, settings.shown_key) == (Mode.NONE, Book.MOCK, "", None)
    assert (settings.host, settings.port, settings.stripe_fallback) == ("127.0.0.1", 8000, Fallback.MOCK)
    assert settings.stripe_api_base == "https://api.stripe.com"


@pytest.mark.parametrize("key", [
    "pk_test_fake", "sk_fake", "sk_test_", "sk_test_...", "sk_test_…", "<your key>", "sk_test_a b", " sk_test_a",
    "sk_test_a\n", "sk_test_ключ", "whsec_fake", "sk_live_", "sk_test_${KEY}"])
def test_what_is_no_secret_key_is_refused(key: str) -> None:
    assert refusal(stripe_secret_key=key) == (
        "STRIPE_SECRET_KEY must be a secret or restricted Stripe key (sk_test_…, rk_test_…, sk_live_… or rk_live_…); "
        "leave it empty to run in mock mode.")


@pytest.mark.parametrize("key", ["sk_live_fake", "rk_live_fake"])
def test_a_live_key_is_refused_while_there_are_no_api_keys(key: str) -> None:
    assert refusal(stripe_secret_key=key) == (
        "STRIPE_SECRET_KEY is a live key, and this version has no API keys to protect it; use a test key (sk_test_…), "
        "or none for mock mode.")


def test_failpoints_are_refused_with_a_live_key() -> None:
    assert refusal(stripe_secret_key="sk_live_fake", failpoints="claim.after=exit") == (
        "PAYDESK_FAILPOINTS stops the desk on purpose, so it is refused with a live key: unset it.")
    assert Settings.load(stripe_secret_key=KEY, failpoints="claim.after=exit").failpoints == "claim.after=exit"


@pytest.mark.parametrize("text", ["claims.after=exit", "claim.after", "claim.after=explode"])
def test_failpoints_that_there_are_not_are_refused(text: str) -> None:
    assert refusal(failpoints=text).startswith("PAYDESK_FAILPOINTS cannot be used: ")


@pytest.mark.parametrize("base", [
    "https://api.stripe.com.evil.example", "https://evil.example", "http://api.stripe.com", "https://api.stripe.com/v1",
    "http://127.0.0.1@evil.example", "http://[::1", "http://127.0.0.1:port", "ftp://127.0.0.1", "//127.0.0.1",
    "127.0.0.1:80", "nonsense", "http://10.0.0.1", "http://0.0.0.0"])
def test_calls_go_to_stripe_or_to_loopback_only(base: str) -> None:
    assert refusal(stripe_api_base=base, stripe_secret_key=KEY) == (
        "STRIPE_API_BASE must be https://api.stripe.com or an address on loopback.")


@pytest.mark.parametrize("base", ["http://127.0.0.1:12111", "http://localhost:1", "http://[::1]:80", "https://none.invalid"])
def test_a_stand_in_on_loopback_and_a_name_that_never_resolves_are_allowed(base: str) -> None:
    assert Settings.load(stripe_api_base=base).stripe_api_base == base


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "desk.example.com", ""])  # noqa: S104  # refused
def test_without_api_keys_the_desk_listens_on_loopback_only_unless_told(host: str) -> None:
    assert refusal(host=host) == (
        "PAYDESK_HOST is not a loopback address and there are no API keys; use 127.0.0.1, or set PAYDESK_OPEN=1 to let "
        "anyone who can connect make charges.")
    assert Settings.load(host=host, open=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_has_several_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(("name", "value"), [
    ("STRIPE_FALLBACK", "XYZZY"), ("STRIPE_RATE_PER_SECOND", "0"), ("STRIPE_RATE_PER_SECOND", "XYZZY"),
    ("STRIPE_RATE_PER_SECOND", "inf"), ("STRIPE_RATE_PER_SECOND", "nan"), ("MOCK_PAYS_AFTER_SECONDS", "-1"),
    ("MOCK_PAYS_AFTER_SECONDS", "XYZZY"), ("PAYDESK_PORT", "65536"), ("PAYDESK_PORT", "-1"), ("PAYDESK_OPEN", "XYZZY"),
    ("PAYDESK_WORKER_THREADS", "1"), ("PAYDESK_LEASE_SECONDS", "0"), ("FLOWER_PORT", "XYZZY")])
def test_a_value_that_cannot_be_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str,
                                                           value: str) -> None:
    monkeypatch.setenv(name, value)
    sentence = refusal()
    assert sentence.startswith(f"Settings cannot be used: {name}: ")
    assert "XYZZY" not in sentence


def test_every_fault_is_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_FALLBACK", "x")
    monkeypatch.setenv("PAYDESK_PORT", "x")
    assert "STRIPE_FALLBACK: " in refusal()
    assert "PAYDESK_PORT: " in refusal()


def test_no_refusal_and_no_picture_of_the_settings_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"stripe_secret_key": KEY, "stripe_webhook_secret": "whsec_DoNotShow", "secret": "secretDoNotShow",
               "redis_url": "redis://:pwDoNotShow@127.0.0.1/0", "broker_url": "redis://:pwDoNotShow@127.0.0.1/1",
               "flower_password": "flowerDoNotShow"}
    settings = Settings.load(**secrets)
    assert "DoNotShow" not in repr(settings) + str(settings) + str(settings.model_dump()) + settings.model_dump_json()
    assert "DoNotShow" not in refusal(**{**secrets, "stripe_secret_key": "sk_live_DoNotShow"})
    assert "DoNotShow" not in refusal(**{**secrets, "stripe_secret_key": "pk_test_DoNotShow"})
    monkeypatch.setenv("PAYDESK_PORT", "x")
    assert "DoNotShow" not in refusal(**secrets)


def test_empty_values_in_env_files_are_as_if_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("# a copied example\nSTRIPE_SECRET_KEY=\nSTRIPE_RATE_PER_SECOND=\nPAYDESK_PORT=\n"
                                   "STRIPE_FALLBACK=\nREDIS_URL=\nLOG_DIR=\nUNKNOWN_NAME=1\n")
    settings = Settings.load()
    assert (settings.mode, settings.stripe_rate_per_second, settings.port) == (Mode.NONE, 20.0, 8000)
    monkeypatch.setenv("STRIPE_SECRET_KEY", "")
    assert Settings.load().mode is Mode.NONE


def test_the_environment_wins_over_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"STRIPE_SECRET_KEY={KEY}\nPAYDESK_PORT=9000\n")
    assert (Settings.load().mode, Settings.load().port) == (Mode.TEST, 9000)
    monkeypatch.setenv("PAYDESK_PORT", "9001")
    assert Settings.load().port == 9001


def test_the_port_has_two_names_and_ours_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    assert Settings.load().port == 9000
    monkeypatch.setenv("PAYDESK_PORT", "9001")
    assert Settings.load().port == 9001


def test_the_simulated_customer_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().mock_pays_after_seconds == 2.0
    monkeypatch.setenv("MOCK_PAYS_AFTER_SECONDS", "off")
    assert Settings.load().mock_pays_after_seconds is None


def test_origins_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().cors_origins == ["*"]
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, https://b.example,")
    assert Settings.load().cors_origins == ["https://a.example", "https://b.example"]


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().port = 1  # type: ignore[misc]  # what must be refused


def test_a_key_with_an_account_part_tells_the_account_whatever_follows_it() -> None:
    rolled = LONG_KEY[:26] + "y" * 80
    assert Settings.load(stripe_secret_key=LONG_KEY).account == "acct_1AbcdefGHIJKLMNO"
    assert Settings.load(stripe_secret_key=rolled).account == Settings.load(stripe_secret_key=LONG_KEY).account


def test_any_other_key_is_an_account_of_its_own_by_a_fingerprint() -> None:
    one, other = (Settings.load(stripe_secret_key=key).account for key in ("sk_test_fake", "sk_test_fakf"))
    assert one != other
    assert one.startswith("key_")
    assert "fake" not in one


@pytest.mark.parametrize(("key", "shown"), [
    (LONG_KEY, "sk_test_51Ab..."), ("sk_test_fake", "sk_test_..."), ("rk_test_" + "a" * 16, "rk_test_aaaa..."),
    ("rk_test_" + "a" * 15, "rk_test_...")])
def test_the_shown_key_is_its_account_part_or_just_its_prefix(key: str, shown: str) -> None:
    assert Settings.load(stripe_secret_key=key).shown_key == shown


def test_a_secret_that_is_set_is_used_and_none_is_written(tmp_path: Path) -> None:
    assert Settings.load(secret="mine").instance_secret() == "mine"
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path / "data")
    secret = settings.instance_secret()
    assert len(secret) == 64
    assert settings.instance_secret() == secret
    [file] = (tmp_path / "data").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_an_open_umask_does_not_open_the_secret(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Settings.load(data_dir=tmp_path / "data").instance_secret()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600


def test_threads_that_ask_at_once_get_one_secret(tmp_path: Path) -> None:
    for n in range(50):
        settings, barrier, found = Settings.load(data_dir=tmp_path / str(n)), threading.Barrier(4), list[str]()

        def ask(settings: Settings = settings, barrier: threading.Barrier = barrier, found: list[str] = found) -> None:
            barrier.wait()
            found.append(settings.instance_secret())

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert set(found) == {(tmp_path / str(n) / "secret").read_text()}
        assert [file.name for file in (tmp_path / str(n)).iterdir()] == ["secret"]


def _ask(data_dir: str) -> str:
    return Settings.load(data_dir=data_dir).instance_secret()


def test_processes_that_ask_at_once_get_one_secret(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        for n in range(10):
            assert len(set(pool.map(_ask, [str(tmp_path / str(n))] * 6, chunksize=1))) == 1


def test_a_started_process_gets_this_environment_with_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYDESK_PORT", "9000")
    environment = process_environment(STRIPE_SECRET_KEY=KEY)
    assert (environment["PAYDESK_PORT"], environment["STRIPE_SECRET_KEY"]) == ("9000", KEY)
    assert "STRIPE_SECRET_KEY" not in os.environ
