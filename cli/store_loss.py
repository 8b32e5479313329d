"""What ends a loss of the store: its epoch begun anew, once what can be known is in it."""

from shared.epoch import STAMP_FILE, Epoch
from shared.errors import SettingsRefused
from shared.ids import Ids
from shared.jobs import Mode
from shared.redis_calls import RedisCalls
from shared.settings import Settings

ANSWER_SECONDS = 10.0


async def accept_loss(settings: Settings, store_url: str) -> int:
    """Take the store of a desk without a Stripe key as it is now; answers how many losses it has had.

    With a key there may be payments that only Stripe knows of. Raises SettingsRefused, WrongSecret, StoreUnavailable.
    """
    if settings.mode is not Mode.NONE:
        raise SettingsRefused("This desk has a Stripe key, so what was lost is asked from Stripe: run `paydesk "
                              "reconcile` without --accept-loss.")
    calls = RedisCalls.connect(store_url, deadline_seconds=ANSWER_SECONDS)
    try:
        return await epoch_of(settings, calls).begin_anew()
    finally:
        await calls.close()


def epoch_of(settings: Settings, calls: RedisCalls) -> Epoch:
    """The epoch of a desk's store, with the stamp that the desk keeps in its data directory."""
    return Epoch(calls, Ids(settings.instance_secret()), settings.data_dir / STAMP_FILE)
