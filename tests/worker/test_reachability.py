"""Reachability: one worker's eye on Stripe, and what the whole desk makes of it."""

import asyncio

import pytest

from cli.servers import free_port
from shared.errors import StoreUnavailable
from shared.redis_calls import ROOT, RedisCalls
from tests.shared.till import DEADLINE_SECONDS, Till
from worker.feeder import TICK_SECONDS
from worker.reachability import BETWEEN_TRIES_SECONDS, TRIES, TRY_SECONDS, Reachability, tcp_connect

pytestmark = pytest.mark.anyio


class Network:
    """A network that can be cut, and counts who tries."""

    def __init__(self) -> None:
        self.is_there = True
        self.failure: Exception = ConnectionRefusedError()
        self.tries = 0
        self.gate: asyncio.Event | None = None
        """When set, each try waits for it."""

    async def connect(self) -> None:
        self.tries += 1
        if self.gate is not None:
            await self.gate.wait()
        if not self.is_there:
            raise self.failure


def worker(till: Till, network: Network, name: str = "w1") -> Reachability:
    return Reachability(till.circuit, name, network.connect)


async def beat(eye: Reachability) -> None:
    """A heartbeat, and the end of the try that it may have begun: the beat itself waits for none."""
    await eye.beat(threads=4)
    if eye._checking is not None:
        await asyncio.wait([eye._checking])


async def may_probe_again(till: Till, scope: str = "") -> None:
    """Let the time between two probes have passed."""
    await till.calls.call("HDEL", f"{ROOT}circuit", f"probe:{scope}")


async def test_a_worker_that_connects_says_so_after_one_try(till: Till) -> None:
    network = Network()
    eye = worker(till, network)
    assert await eye.check()
    assert (network.tries, eye.reach.open, eye.cut_off) == (1, False, False)


@pytest.mark.parametrize("failure", [ConnectionRefusedError(), OSError("unreachable"), TimeoutError(),
                                     ConnectionResetError()])
async def test_only_three_failures_in_a_row_are_one(till: Till, failure: Exception) -> None:
    network = Network()
    network.is_there, network.failure = False, failure
    eye = worker(till, network)
    await eye.beat(threads=4)
    assert not await eye.check()
    assert (network.tries, eye.reach.open) == (TRIES, True)


async def test_all_who_ask_at_once_share_one_check(till: Till) -> None:
    network = Network()
    network.gate = asyncio.Event()
    eye = worker(till, network)
    asking = asyncio.gather(*(eye.check() for _ in range(100)))
    while not network.tries:
        await asyncio.sleep(0)
    network.gate.set()
    assert await asking == [True] * 100
    assert network.tries == 1
    assert await eye.check()
    assert network.tries == 2


async def test_who_stops_waiting_does_not_stop_the_check_of_the_others(till: Till) -> None:
    network = Network()
    network.gate = asyncio.Event()
    eye = worker(till, network)
    first, second = asyncio.create_task(eye.check()), asyncio.create_task(eye.check())
    while not network.tries:
        await asyncio.sleep(0)
    first.cancel()
    network.gate.set()
    assert await second
    assert network.tries == 1


async def test_a_worker_that_fails_alone_is_cut_off_and_the_circuit_stays_closed(till: Till) -> None:
    here, there = Network(), Network()
    here.is_there = False
    cut, well = worker(till, here, "w1"), worker(till, there, "w2")
    await beat(well)
    await beat(cut)
    await cut.check()
    assert (cut.cut_off, cut.reach.open) == (True, False)
    await beat(well)
    assert there.tries == 1, "each worker tries for itself once one has failed"
    assert (well.cut_off, well.reach.open) == (False, False)
    await beat(cut)
    assert cut.cut_off


async def test_the_circuit_opens_when_every_fresh_worker_has_failed(till: Till) -> None:
    networks = [Network() for _ in range(3)]
    eyes = [worker(till, network, f"w{n}") for n, network in enumerate(networks)]
    for eye, network in zip(eyes, networks, strict=True):
        await beat(eye)
        network.is_there = False
    await eyes[0].check()
    assert not eyes[0].reach.open
    for eye in eyes[1:]:
        await beat(eye)
    await eyes[0].refresh()
    assert [eye.reach.open for eye in (eyes[0], eyes[2])] == [True, True]
    assert not eyes[0].cut_off


async def test_a_worker_without_a_heartbeat_does_not_count(till: Till) -> None:
    gone, here = Network(), Network()
    here.is_there = False
    await worker(till, gone, "w1").beat(threads=4)
    eye = worker(till, here, "w2")
    await beat(eye)
    await till.calls.call("ZADD", f"{ROOT}workers", await till.now_ms() - 5001, "w1")
    await eye.check()
    assert (eye.reach.open, eye.reach.fresh_workers) == (True, 1)


async def test_a_worker_that_leaves_does_not_count(till: Till) -> None:
    here = Network()
    here.is_there = False
    await till.circuit.beat("w1", threads=4)
    eye = worker(till, here, "w2")
    await beat(eye)
    await eye.check()
    assert not eye.reach.open
    assert (await till.circuit.leave("w1")).open


async def test_without_any_worker_the_circuit_is_closed(till: Till) -> None:
    assert not (await till.circuit.failed("w1")).open


async def test_one_worker_at_a_time_probes_while_the_circuit_is_open_and_its_answer_closes_it(till: Till) -> None:
    networks = [Network(), Network()]
    eyes = [worker(till, network, f"w{n}") for n, network in enumerate(networks)]
    for eye, network in zip(eyes, networks, strict=True):
        network.is_there = False
        await beat(eye)
    await asyncio.gather(*(eye.check() for eye in eyes))
    before = sum(network.tries for network in networks)
    await asyncio.gather(*(beat(eye) for eye in eyes))
    await asyncio.gather(*(beat(eye) for eye in eyes))
    assert sum(network.tries for network in networks) == before + TRIES, "one probe in the time of one"
    for network in networks:
        network.is_there = True
    await may_probe_again(till)
    await till.pass_ms(await till.now_ms())
    for eye in eyes:
        await beat(eye)
    await asyncio.gather(*(eye.refresh() for eye in eyes))
    assert [eye.reach.open for eye in eyes] == [False, False]


async def test_a_cut_off_worker_goes_on_trying_by_itself_and_comes_back(till: Till) -> None:
    network = Network()
    network.is_there = False
    eye = worker(till, network)
    await till.circuit.beat("w2", threads=4)
    await beat(eye)
    await eye.check()
    await beat(eye)
    tries = network.tries
    await beat(eye)
    assert network.tries == tries, "not more often than a probe may be"
    network.is_there = True
    await may_probe_again(till, "w1")
    await beat(eye)
    assert (network.tries, eye.cut_off) == (tries + 1, False)


async def test_the_threads_of_all_fresh_workers_are_added(till: Till) -> None:
    await till.circuit.beat("w1", threads=4)
    assert (await worker(till, Network(), "w2").beat(threads=16)).threads == 20


async def test_a_store_that_is_away_is_not_taken_for_stripe() -> None:
    away = RedisCalls.connect(f"redis://127.0.0.1:{free_port()}/0", deadline_seconds=1)
    eye = worker(Till(away), Network())
    with pytest.raises(StoreUnavailable):
        await beat(eye)
    assert not eye.cut_off
    await away.close()


async def test_a_plain_connect_sends_nothing_and_tells_refused_from_there() -> None:
    heard: list[bytes] = []
    done = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()
        done.set()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await tcp_connect("127.0.0.1", port)()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await done.wait()
    server.close()
    await server.wait_closed()
    assert heard == [b""]
    with pytest.raises(OSError, match="Connect call failed"):
        await tcp_connect("127.0.0.1", port)()


async def hang() -> None:
    """A network that drops every packet."""
    await asyncio.Event().wait()


async def test_a_heartbeat_waits_for_no_connect(till: Till) -> None:
    eye = Reachability(till.circuit, "w1", hang)
    await till.circuit.beat("w2", threads=4)
    await eye.beat(threads=4)
    await till.circuit.failed("w2")
    await eye.beat(threads=4)
    checking = eye._checking
    assert checking is not None
    for _ in range(3):
        await till.calls.call("ZADD", f"{ROOT}workers", await till.now_ms() - 4000, "w1")
        before = await till.now_ms()
        await eye.beat(threads=4)
        assert not checking.done(), "the beat waited for the try"
        assert int(await till.calls.call("ZSCORE", f"{ROOT}workers", "w1")) >= before
    checking.cancel()
    await asyncio.wait([checking])


async def test_a_call_that_cannot_connect_makes_the_other_workers_try_before_its_own_tries_are_over(till: Till) -> None:
    here, there = Network(), Network()
    here.is_there = there.is_there = False
    here.gate = asyncio.Event()
    first, second = worker(till, here, "w1"), worker(till, there, "w2")
    for eye in (first, second):
        await eye.beat(threads=4)
    checking = asyncio.create_task(first.check(suspected=True))
    end = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while not there.tries:
        assert asyncio.get_running_loop().time() < end, "nobody else tries"
        await beat(second)
    assert not checking.done()
    here.gate.set()
    assert not await checking
    assert first.reach.open


async def test_two_workers_whose_packets_are_dropped_open_the_circuit_in_time(till: Till) -> None:
    eyes = [Reachability(till.circuit, f"w{n}", hang) for n in range(2)]
    for eye in eyes:
        await eye.beat(threads=4)
    loop = asyncio.get_running_loop()
    began = loop.time()
    checking = asyncio.create_task(eyes[0].check(suspected=True))
    while not (await till.circuit.look()).open:
        assert loop.time() - began < TRIES * (TRY_SECONDS + BETWEEN_TRIES_SECONDS) + TICK_SECONDS + 1
        await asyncio.sleep(TICK_SECONDS)
        await asyncio.gather(*(eye.beat(threads=4) for eye in eyes))
    assert not await checking
    assert not eyes[0].cut_off


async def test_a_report_is_a_heartbeat_of_who_belongs_and_brings_nobody_back(till: Till) -> None:
    await till.circuit.beat("w1", threads=4)
    await till.circuit.beat("w2", threads=4)
    old = await till.now_ms() - 5001
    for report in (till.circuit.suspect, till.circuit.failed):
        await till.calls.call("ZADD", f"{ROOT}workers", old, "w1", old, "w2")
        assert (await report("w1")).fresh_workers == 1
    await till.circuit.leave("w1")
    for report in (till.circuit.suspect, till.circuit.failed):
        assert (await report("w1")).fresh_workers == 0


async def test_a_check_that_the_store_did_not_hear_of_is_made_again(till: Till) -> None:
    away = RedisCalls.connect(f"redis://127.0.0.1:{free_port()}/0", deadline_seconds=1)
    network = Network()
    eye = worker(Till(away), network)
    for tries in (1, 2):
        with pytest.raises(StoreUnavailable):
            await eye.check()
        assert network.tries == tries
    await away.close()
