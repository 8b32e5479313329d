"""Stripe out of reach, to the end: workers whose names resolve differently, and a network that swallows packets."""

import asyncio
import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bench.reach import swallowing
from cli import processes
from cli.servers import LOOPBACK
from standin.client import Standin
from tests.e2e.http_desk import CHARGE, CHARGES, PAYMENT_STATUS, READY_SECONDS, STATS, http_desk, job_of

pytestmark = pytest.mark.anyio

NAME = "stripe.invalid"
"""Only a hosts file can make it resolve."""
NO_RESOLVER = f"nameserver {LOOPBACK}\noptions timeout:1 attempts:1\n"
OWN_RESOLVER = ("unshare", "--mount", "sh", "-c",
                'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"', "sh")
RETURN_SECONDS = 30.0
LEASE_SECONDS = "60"
"""As it is by itself: a lease must outlive the tries to connect, or the attempt's doubt stays."""


def _may_have_own_resolver() -> bool:
    """Whether this user may give a process its own view of /etc."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*OWN_RESOLVER, "/etc/hosts", "/etc/hosts", "true"], capture_output=True,
                          check=False).returncode == 0


@pytest.mark.skipif(not _may_have_own_resolver(), reason="mount namespaces are not allowed here; "
                    "tests/faults/test_circuit.py tries a worker with an address of its own")
async def test_broken_names_mock_everybody_only_where_they_are_broken_for_everybody(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(NO_RESOLVER)
    hosts = [tmp_path / f"hosts_{number}" for number in range(3)]
    for file in hosts:
        file.write_text("")
    async with http_desk(tmp_path, workers=()) as (desk, client):
        base = desk.standin.base_url.replace(LOOPBACK, NAME)
        for number, file in enumerate(hosts):
            desk.start(processes.WORKER, f"worker_{number}", inside=[*OWN_RESOLVER, str(file), str(resolver)],
                       PAYDESK_WORKER_NAME=f"w{number}", STRIPE_API_BASE=base)
        await desk.until(lambda: desk.ready(client, workers=len(hosts)), READY_SECONDS, "a ready desk")

        mocked = await _charge(client)
        assert mocked["fallback_reason"] == "network_error"
        assert await _seen(client) == ("unreachable", True)

        for file in hosts[1:]:
            file.write_text(f"{LOOPBACK} {NAME}\n")
        await desk.until(lambda: _reachable(client), RETURN_SECONDS, "the return of Stripe noticed")
        jobs = [job_of(await client.post(CHARGES, json=CHARGE)) for _ in range(9)]
        # What a cut off worker lets go of is due again after some seconds.
        ended = await asyncio.gather(*(desk.came_to(client, job_id) for job_id in jobs))
        assert {job["book"] for job in ended} == {"test"}
        assert sorted(desk.charges_made()) == sorted(jobs)
        assert await _seen(client) == ("reachable", False)


async def test_swallowed_packets_are_answered_by_the_mock_and_the_return_is_noticed(tmp_path: Path) -> None:
    with contextlib.ExitStack() as away, contextlib.ExitStack() as back:
        port = away.enter_context(swallowing())
        settings = {"STRIPE_API_BASE": f"http://{LOOPBACK}:{port}", "PAYDESK_LEASE_SECONDS": LEASE_SECONDS}
        async with http_desk(tmp_path, workers=({}, {}), settings=settings) as (desk, client):
            for _ in range(4):
                assert (await _charge(client))["fallback_reason"] == "network_error"
                assert await _seen(client) == ("unreachable", True)
            unseen = await client.get(PAYMENT_STATUS, params={"payment_intent_id": "pi_unseen"})
            assert (unseen.status_code, unseen.json()["code"]) == (503, "stripe_unavailable")

            away.close()
            desk.standin = back.enter_context(Standin.start(port=port))
            await desk.until(lambda: _reachable(client), RETURN_SECONDS, "the return of Stripe noticed")
            assert "mock_mode" not in await _charge(client)
            assert await _seen(client) == ("reachable", False)
            assert len(desk.charges_made()) == 1


async def _charge(client: httpx2.AsyncClient) -> dict[str, Any]:
    """The result of a charge that is waited for."""
    response = await client.post(CHARGES, json=CHARGE, headers={"Prefer": "wait=20"})
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()
    assert ("paydesk-mode" in response.headers) == ("mock_mode" in result)
    return result


async def _seen(client: httpx2.AsyncClient) -> tuple[str, bool]:
    """What `/readyz?verbose` says of Stripe, while the desk is ready, and `stats` of the mock."""
    ready, stats = await client.get("/readyz?verbose"), await client.get(STATS)
    assert (ready.status_code, stats.status_code) == (200, 200)
    return ready.json()["checks"]["stripe"], stats.json()["mock_mode"]


async def _reachable(client: httpx2.AsyncClient) -> bool:
    return await _seen(client) == ("reachable", False)
