"""Epoch: a store is one desk's for ever, and known to be whole, or it is not used."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.epoch import STAMP_FILE, Epoch
from shared.errors import StoreFull, StoreLost, StoreUnavailable, WrongSecret
from shared.ids import Ids
from shared.jobs import Mode
from shared.redis_calls import ROOT, SCRIPT_NAMES, RedisCalls
from tests.shared.till import Till, emptied, new

pytestmark = pytest.mark.anyio

KEY = f"{ROOT}epoch"
NOT_WRITING = {"moment"}


@pytest.fixture
async def full(till: Till) -> AsyncIterator[Till]:
    """A till whose server will have no memory left once its maxmemory is set; set back afterwards."""
    before = (await till.calls.call("CONFIG GET", "maxmemory"))["maxmemory"]
    yield till
    await till.calls.call("CONFIG SET", "maxmemory", before)


@pytest.fixture
async def everysec(till: Till) -> AsyncIterator[Till]:
    """A till whose server may lose the last second; set back afterwards."""
    await till.calls.call("CONFIG SET", "appendfsync", "everysec")
    yield till
    await till.calls.call("CONFIG SET", "appendfsync", "always")


@pytest.fixture
def stamp(tmp_path: Path) -> Path:
    """Where the desk keeps its stamp."""
    return tmp_path / "data" / STAMP_FILE


def epoch(till: Till, stamp: Path | None = None, whose: str = "ours") -> Epoch:
    """What a process that starts knows of the store: nothing yet."""
    return Epoch(till.calls, Ids(whose), stamp)


async def losses(till: Till) -> int:
    return int(await till.calls.call("HGET", KEY, "losses"))


async def restarted(till: Till) -> None:
    """What a process sees of a server that was restarted: no scripts, and a run that it does not know."""
    await till.calls.call("HSET", KEY, "run_id", "an earlier run")
    await till.calls.call("SCRIPT FLUSH")


async def test_a_store_is_whose_it_was_first(till: Till) -> None:
    await epoch(till).check()
    await epoch(till).check()
    with pytest.raises(WrongSecret):
        await epoch(till, whose="another").check()


async def test_a_full_store_is_known_as_ours(full: Till, stamp: Path) -> None:
    await epoch(full, stamp).check()
    await restarted(full)
    await full.calls.call("CONFIG SET", "maxmemory", 1)
    await epoch(full, stamp).check()
    with pytest.raises(WrongSecret):
        await epoch(full, whose="another").check()


async def test_a_full_store_becomes_nobodys(full: Till) -> None:
    await full.calls.call("FLUSHALL")
    await full.calls.call("CONFIG SET", "maxmemory", 1)
    fresh = epoch(full)
    with pytest.raises(StoreFull):
        await fresh.check()
    await full.calls.call("CONFIG SET", "maxmemory", 0)
    await fresh.check()


async def test_a_fresh_store_is_begun_once_by_all_who_start_together(till: Till, stamp: Path) -> None:
    await till.calls.call("FLUSHALL")
    await asyncio.gather(*(epoch(till, stamp).check() for _ in range(10)))
    remembered = json.loads(stamp.read_text())
    assert remembered == {"epoch": await till.calls.call("HGET", KEY, "id"), "last_event": "0-0", "losses": 0}
    assert stat.S_IMODE(stamp.stat().st_mode) == 0o600
    assert await losses(till) == 0
    assert [file.name for file in stamp.parent.iterdir() if file.suffix != ".lock"] == [STAMP_FILE]


async def test_a_store_of_an_older_desk_is_adopted_with_its_jobs(till: Till, stamp: Path) -> None:
    await epoch(till).check()
    job = await till.started()
    await till.calls.call("DEL", KEY)
    await epoch(till, stamp).check()
    assert (await till.job()) == job
    assert await losses(till) == 0


async def test_the_stamp_follows_the_events_and_never_goes_back(till: Till, stamp: Path) -> None:
    desk = epoch(till, stamp)
    await desk.check()
    slow = stamp.read_text()
    await till.accept(new())
    await desk.look_again()
    remembered = json.loads(stamp.read_text())
    assert remembered["last_event"] == (await till.calls.call("XREVRANGE", f"{ROOT}events", "+", "-"))[0][0]
    stamp.write_text(slow)  # another process was slower
    await desk.look_again()
    assert json.loads(stamp.read_text()) == remembered


async def test_an_emptied_store_is_lost_to_who_starts_and_to_who_runs(till: Till, stamp: Path) -> None:
    running = epoch(till, stamp)
    await running.check()
    await till.accept(new())
    await till.calls.call("FLUSHALL")
    with pytest.raises(StoreLost):
        await till.accept(new("job_b"))
    with pytest.raises(StoreLost):
        await till.store.get("job_a")
    for desk in (running, epoch(till, stamp)):
        with pytest.raises(StoreLost):
            await desk.look_again()
        with pytest.raises(StoreLost):
            await desk.check()
    assert await till.calls.call("DBSIZE") == 0


@pytest.mark.parametrize("name", SCRIPT_NAMES)
async def test_no_script_writes_into_a_store_without_an_epoch(till: Till, name: str) -> None:
    await till.calls.call("FLUSHALL")
    if name in NOT_WRITING:
        assert await till.calls.moment(("DBSIZE",)) == [0]
    else:
        with pytest.raises(StoreLost):
            await till.calls.script(name)
    assert await till.calls.call("DBSIZE") == 0


async def test_a_store_that_was_replaced_is_lost(till: Till, stamp: Path) -> None:
    await epoch(till, stamp).check()
    await emptied(till.calls)
    await till.calls.call("HSET", KEY, "id", "another")
    with pytest.raises(StoreLost, match="replaced"):
        await epoch(till, stamp).check()


@pytest.mark.parametrize("what", ["losses", "last_event"])
async def test_an_older_copy_is_lost(till: Till, stamp: Path, what: str) -> None:
    await epoch(till, stamp).check()
    newer = json.loads(stamp.read_text()) | {what: {"losses": 1, "last_event": "1-0"}[what]}
    stamp.write_text(json.dumps(newer))
    with pytest.raises(StoreLost, match="older copy"):
        await epoch(till, stamp).check()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"epoch": "a", "last_event": "?", "losses": 0}'])
async def test_a_stamp_that_is_none_is_no_proof_that_the_store_is_whole(till: Till, stamp: Path, text: str) -> None:
    stamp.parent.mkdir()
    stamp.write_text(text)
    desk = epoch(till, stamp)
    with pytest.raises(StoreLost, match="stamp"):
        await desk.check()
    await desk.begin_anew()
    await epoch(till, stamp).check()


async def test_scripts_are_not_loaded_into_a_restarted_server_that_is_an_older_copy(till: Till, stamp: Path) -> None:
    await epoch(till, stamp).check()
    before = stamp.read_text()
    stamp.write_text(json.dumps(json.loads(before) | {"last_event": "1-0"}))
    await restarted(till)
    for _ in range(2):
        with pytest.raises(StoreLost):
            await till.accept(new())
    assert await till.calls.call("EXISTS", f"{ROOT}job:job_a") == 0
    stamp.write_text(before)
    await till.accept(new())


async def test_a_restart_of_a_server_that_keeps_everything_is_no_loss(till: Till, stamp: Path) -> None:
    await epoch(till, stamp).check()
    await restarted(till)
    await till.accept(new())
    assert await losses(till) == 0
    assert await till.calls.call("HGET", KEY, "run_id") != "an earlier run"


@pytest.mark.parametrize("now_always", [True, False])
async def test_a_restart_of_a_server_that_does_not_is_one_loss_whoever_sees_it(everysec: Till, stamp: Path,
                                                                             now_always: bool) -> None:
    desks = [epoch(everysec, stamp) for _ in range(5)]
    await desks[0].check()
    await restarted(everysec)
    if now_always:
        await everysec.calls.call("CONFIG SET", "appendfsync", "always")
    await asyncio.gather(*(everysec.accept(new(f"job_{number}")) for number in range(20)),
                         *(desk.look_again() for desk in desks))
    assert await losses(everysec) == 1
    assert json.loads(stamp.read_text())["losses"] == 1


async def test_a_server_that_became_less_durable_is_noted_before_it_can_lose_anything(till: Till) -> None:
    desk = epoch(till)
    await desk.check()
    await till.calls.call("CONFIG SET", "appendfsync", "everysec")
    try:
        await desk.look_again()
    finally:
        await till.calls.call("CONFIG SET", "appendfsync", "always")
    assert (await losses(till), await till.calls.call("HGET", KEY, "always")) == (0, "0")


async def test_what_cannot_be_asked_is_not_taken_for_whole(till: Till, stamp: Path) -> None:
    desk = epoch(till, stamp)
    await desk.check()
    gone = RedisCalls.connect("redis://127.0.0.1:1/0", deadline_seconds=1)
    away = Epoch(gone, Ids("ours"), stamp)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await away.check()
    await gone.close()


async def test_a_lost_store_is_begun_anew_and_other_machines_follow(till: Till, stamp: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / STAMP_FILE
    for file in (stamp, elsewhere):
        await epoch(till, file).check()
    await till.calls.call("FLUSHALL")
    assert await epoch(till, stamp).begin_anew() == 1
    for file in (stamp, elsewhere):
        await epoch(till, file).check()
        assert json.loads(file.read_text())["losses"] == 1
    assert await epoch(till, stamp).begin_anew() == 2
    await till.accept(new(mode=Mode.NONE))


async def test_losses_are_never_counted_from_the_beginning_again(till: Till, stamp: Path) -> None:
    desk = epoch(till, stamp)
    await desk.check()
    for expected in (1, 2, 3):
        await till.calls.call("FLUSHALL")
        assert await desk.begin_anew() == expected


async def test_another_desks_store_is_not_begun_anew(till: Till) -> None:
    await epoch(till).check()
    with pytest.raises(WrongSecret):
        await epoch(till, whose="another").begin_anew()


async def test_a_lost_store_is_rebuilt_before_anything_is_claimed(till: Till, stamp: Path) -> None:
    desk = epoch(till, stamp)
    await desk.check()
    await till.calls.call("FLUSHALL")

    async def cut_off() -> None:
        async with desk.rebuilding() as lost:
            assert lost
            await till.accept(new())
            assert await till.claim("job_a") == []
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await cut_off()
    assert await till.claim("job_a") == []
    async with epoch(till, stamp).rebuilding() as lost:
        assert lost, "the first time was cut off"
    assert [job.id for job in await till.claim("job_a")] == ["job_a"]
    assert await losses(till) == 1
    async with epoch(till, stamp).rebuilding() as lost:
        assert not lost
    assert await losses(till) == 1
