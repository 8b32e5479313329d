"""The end of a loss: only a desk without a Stripe key may accept it unseen."""

from pathlib import Path

import pytest

from cli.servers import EmbeddedServer
from cli.store_loss import accept_loss, epoch_of
from shared.errors import SettingsRefused, StoreLost
from shared.redis_calls import RedisCalls
from shared.settings import Settings
from tests.shared.till import Till, new

pytestmark = pytest.mark.anyio


def settings(folder: Path, **more: object) -> Settings:
    return Settings(_env_file=None, data_dir=folder, secret="a secret of the tests", **more)  # type: ignore[arg-type]  # checked by pydantic itself


async def test_a_desk_without_a_key_goes_on_with_what_is_there(till: Till, calls: RedisCalls, valkey: EmbeddedServer,
                                                              tmp_path: Path) -> None:
    desk = settings(tmp_path)
    await epoch_of(desk, calls).check()
    await calls.call("FLUSHALL")
    with pytest.raises(StoreLost):
        await epoch_of(desk, calls).check()
    assert await accept_loss(desk, valkey.url) == 1
    await epoch_of(desk, calls).check()
    assert not (await till.accept(new())).replayed


async def test_with_a_key_stripe_is_asked(calls: RedisCalls, valkey: EmbeddedServer, tmp_path: Path) -> None:
    desk = settings(tmp_path, stripe_secret_key="sk_test_fake")
    await epoch_of(desk, calls).check()
    await calls.call("FLUSHALL")
    with pytest.raises(SettingsRefused, match="paydesk reconcile"):
        await accept_loss(desk, valkey.url)
    with pytest.raises(StoreLost):
        await epoch_of(desk, calls).check()
