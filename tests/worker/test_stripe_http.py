"""Our client under Stripe's SDK: for every way to fail, whether it knows that nothing was sent."""

import asyncio
import gzip
import os
import shutil
import socket
import ssl
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.worker.conftest import Line, Peer, Script
from worker.stripe_http import CONNECT_SECONDS, TOTAL_SECONDS, ConnectionFailed, StripeHTTP

pytestmark = pytest.mark.anyio

SHORT = 1.0
JSON = b'{"id": "pi_1"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def open_client(anyio_backend: str) -> AsyncIterator[Callable[..., StripeHTTP]]:
    """Makes clients with short deadlines, and closes them."""
    made: list[StripeHTTP] = []

    def make(*, connect_seconds: float = 2.0, total_seconds: float = 5.0, max_body_bytes: int = 1_000_000,
             tls: ssl.SSLContext | None = None) -> StripeHTTP:
        client = StripeHTTP(connect_seconds=connect_seconds, total_seconds=total_seconds,
                            max_body_bytes=max_body_bytes, tls=tls)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.close_async()


async def post(client: StripeHTTP, base_url: str) -> tuple[bytes, int]:
    body, status, _ = await client.request_async("post", f"{base_url}/v1/payment_intents", {}, "amount=50")
    return body, status


async def failure(client: StripeHTTP, base_url: str, method: str = "post") -> ConnectionFailed:
    body = "amount=50" if method == "post" else None
    with pytest.raises(ConnectionFailed) as caught:
        await client.request_async(method, f"{base_url}/v1/payment_intents", {}, body)
    return caught.value


# --- nothing sent ---


async def test_a_name_that_does_not_resolve_is_not_sent(open_client: Callable[..., StripeHTTP]) -> None:
    failed = await failure(open_client(), "https://stripe.invalid")
    assert not failed.possibly_sent
    assert failed.reason in ("name_not_resolved", "connect_timeout")  # as the resolver likes


async def test_refused_is_not_sent(open_client: Callable[..., StripeHTTP]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else can take the port
        failed = await failure(open_client(), f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert not failed.possibly_sent
    assert failed.reason == "connect_econnrefused"


async def test_a_connect_that_times_out_is_not_sent(open_client: Callable[..., StripeHTTP]) -> None:
    with ExitStack() as plugs:
        deaf = plugs.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):  # fills the backlog: the next SYN gets no answer
            caller = plugs.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        failed = await failure(open_client(connect_seconds=SHORT), f"http://127.0.0.1:{deaf.getsockname()[1]}")
    assert (failed.possibly_sent, failed.reason) == (False, "connect_timeout")


async def hello_then_plaintext(line: Line) -> None:
    await line.reader.read(1)
    await line.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def hello_then_hang(line: Line) -> None:
    await line.silence()


async def hello_then_rst(line: Line) -> None:
    await line.reader.read(1)
    line.reset()


async def hello_then_fin(line: Line) -> None:
    await line.reader.read(65536)


@pytest.mark.parametrize(("script", "reason"), [
    (hello_then_plaintext, "tls_handshake_failed"), (hello_then_hang, "connect_timeout"),
    (hello_then_rst, "connect_econnreset"), (hello_then_fin, "connect_failed")])
async def test_a_tls_handshake_that_fails_is_not_sent(
        peer: Peer, open_client: Callable[..., StripeHTTP], script: Script, reason: str) -> None:
    base_url = (await peer.play(script)).replace("http:", "https:")
    failed = await failure(open_client(connect_seconds=SHORT), base_url)
    assert (failed.possibly_sent, failed.reason) == (False, reason)
    assert peer.connections == 1


# --- possibly sent: the server read the whole request ---


async def rst(line: Line) -> None:
    await line.request()
    line.reset()


async def fin(line: Line) -> None:
    await line.request()


async def silent(line: Line) -> None:
    await line.request()
    await line.silence()


async def no_http(line: Line) -> None:
    await line.request()
    await line.say(b"\x16\x03\x01 what\r\n\r\n")


async def hang_in_headers(line: Line) -> None:
    await line.request()
    await line.say(HEAD)
    await line.silence()


async def hang_in_body(line: Line) -> None:
    await line.request()
    await line.say(HEAD + b"Content-Length: 100\r\n\r\n{")
    await line.silence()


async def truncated(line: Line) -> None:
    await line.request()
    await line.say(HEAD + b"Content-Length: 100\r\n\r\n{")


async def rst_in_body(line: Line) -> None:
    await line.request()
    await line.say(HEAD + b"Content-Length: 100\r\n\r\n{")
    line.reset()


async def bad_chunk(line: Line) -> None:
    await line.request()
    await line.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n")


async def bad_gzip(line: Line) -> None:
    await line.request()
    await line.answer(200, b"this is no gzip at all", "Content-Encoding: gzip")


async def oversize(line: Line) -> None:
    await line.request()
    await line.answer(200, b" " * 1_000_001)


async def endless(line: Line) -> None:
    await line.request()
    await line.say(HEAD + b"\r\n")
    while True:
        await line.say(b" " * 65536)


async def endless_header(line: Line) -> None:
    await line.request()
    await line.say(HEAD + b"X-Long: ")
    while True:
        await line.say(b"x" * 65536)


@pytest.mark.parametrize("script", [rst, fin, silent, no_http, hang_in_headers, hang_in_body, truncated, rst_in_body,
                                    bad_chunk, bad_gzip, oversize, endless, endless_header])
async def test_after_the_request_every_failure_is_possibly_sent(
        peer: Peer, open_client: Callable[..., StripeHTTP], script: Script) -> None:
    failed = await failure(open_client(total_seconds=SHORT), await peer.play(script))
    assert failed.possibly_sent
    assert [request.splitlines()[0] for request in peer.heard] == [b"POST /v1/payment_intents HTTP/1.1"]


async def test_a_connection_reset_before_it_is_read_is_possibly_sent(
        peer: Peer, open_client: Callable[..., StripeHTTP]) -> None:
    async def at_once(line: Line) -> None:
        line.reset()

    assert (await failure(open_client(), await peer.play(at_once))).possibly_sent


async def test_a_gzip_bomb_is_cut_off_in_bounded_memory(peer: Peer, open_client: Callable[..., StripeHTTP]) -> None:
    bomb = gzip.compress(bytes(100_000_000), 9)

    async def explode(line: Line) -> None:
        await line.request()
        await line.answer(200, bomb, "Content-Encoding: gzip")

    base_url = await peer.play(explode)
    tracemalloc.start()
    try:
        failed = await failure(open_client(), base_url)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert failed.possibly_sent
    assert failed.reason == "answer_too_large"


@pytest.mark.parametrize("method", ["post", "get"])
async def test_a_stale_connection_is_possibly_sent(
        peer: Peer, open_client: Callable[..., StripeHTTP], method: str) -> None:
    async def once(line: Line) -> None:
        await line.request()
        await line.answer(200, JSON)
        await line.request()
        line.reset()

    client, base_url = open_client(), await peer.play(once)
    await post(client, base_url)
    for server in peer._servers:  # so that a GET, which aiohttp sends again by itself, is refused at last
        server.close()
    assert (await failure(client, base_url, method)).possibly_sent
    assert len(peer.heard) == 2


# --- answers ---


async def answering(line: Line) -> None:
    while True:
        await line.request()
        await line.answer(200, JSON, "Request-Id: req_1")


async def test_an_answer_is_given_whole_and_its_connection_is_used_again(
        peer: Peer, open_client: Callable[..., StripeHTTP]) -> None:
    client, base_url = open_client(), await peer.play(answering)
    body, status, headers = await client.request_async("post", f"{base_url}/v1/customers", {"X-A": "b"}, "name=%C3%A9")
    assert (body, status, headers["request-id"]) == (JSON, 200, "req_1")
    assert b"X-A: b" in peer.heard[0]
    assert peer.heard[0].endswith(b"\r\n\r\nname=%C3%A9")
    assert await post(client, base_url) == (JSON, 200)
    assert peer.connections == 1


async def test_compressed_answers_are_read(peer: Peer, open_client: Callable[..., StripeHTTP]) -> None:
    async def zipped(line: Line) -> None:
        await line.request()
        await line.answer(200, gzip.compress(JSON), "Content-Encoding: gzip")

    assert await post(open_client(), await peer.play(zipped)) == (JSON, 200)


async def test_any_number_of_calls_are_in_flight_at_once(peer: Peer, open_client: Callable[..., StripeHTTP]) -> None:
    everybody = asyncio.Event()

    async def together(line: Line) -> None:
        await line.request()
        if len(peer.heard) == 150:
            everybody.set()
        await everybody.wait()
        await line.answer(200, JSON)

    client, base_url = open_client(), await peer.play(together)
    assert await asyncio.gather(*(post(client, base_url) for _ in range(150))) == [(JSON, 200)] * 150


async def test_a_redirect_is_an_answer_and_is_not_followed(peer: Peer, open_client: Callable[..., StripeHTTP]) -> None:
    async def redirecting(line: Line) -> None:
        while True:
            await line.request()
            await line.answer(302, b"", f"Location: {peer.base_url}/login")

    assert await post(open_client(), await peer.play(redirecting)) == (b"", 302)
    assert len(peer.heard) == 1


async def test_proxies_and_cookies_are_not_used(
        peer: Peer, open_client: Callable[..., StripeHTTP], monkeypatch: pytest.MonkeyPatch) -> None:
    async def baking(line: Line) -> None:
        while True:
            await line.request()
            await line.answer(200, JSON, "Set-Cookie: a=b")

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    client, base_url = open_client(), await peer.play(baking)
    await post(client, base_url)
    await post(client, base_url)
    assert b"cookie" not in peer.heard[1].lower()


async def test_cancelling_is_not_turned_into_a_failure(peer: Peer, open_client: Callable[..., StripeHTTP]) -> None:
    arrived = asyncio.Event()

    async def waiting(line: Line) -> None:
        await line.request()
        arrived.set()
        await line.silence()

    call = asyncio.create_task(post(open_client(), await peer.play(waiting)))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_anything_not_foreseen_is_possibly_sent(open_client: Callable[..., StripeHTTP]) -> None:
    assert (await failure(open_client(), "no-scheme://127.0.0.1")).possibly_sent


async def test_a_closed_client_opens_again(peer: Peer, open_client: Callable[..., StripeHTTP]) -> None:
    client, base_url = open_client(), await peer.play(answering)
    await post(client, base_url)
    await client.close_async()
    await client.close_async()
    assert await post(client, base_url) == (JSON, 200)
    assert peer.connections == 2


def test_a_call_ends_well_within_a_lease() -> None:
    assert CONNECT_SECONDS < TOTAL_SECONDS <= 30


# --- TLS that gets as far as a certificate ---


@dataclass(frozen=True)
class Authority:
    """A certificate for 127.0.0.1 that signs itself, and the two sides' contexts with it."""

    certificate: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("NOT CHECKED: these TLS rows need the openssl program to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = Authority(folder / "certificate.pem", folder / "key.pem")
    subprocess.run([program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-out", made.certificate, "-keyout", made.key], check=True, capture_output=True, timeout=30)
    return made


async def test_an_untrusted_certificate_is_not_sent(
        peer: Peer, open_client: Callable[..., StripeHTTP], authority: Authority) -> None:
    failed = await failure(open_client(), await peer.play(answering, authority.server()))
    assert not failed.possibly_sent
    assert failed.reason == "tls_untrusted"
    assert peer.heard == []


async def test_a_certificate_for_another_name_is_not_sent(
        peer: Peer, open_client: Callable[..., StripeHTTP], authority: Authority) -> None:
    base_url = await peer.play(answering, authority.server())
    failed = await failure(open_client(tls=authority.client()), base_url.replace("127.0.0.1", "localhost"))
    assert not failed.possibly_sent
    assert peer.heard == []


async def test_a_trusted_certificate_is_answered(
        peer: Peer, open_client: Callable[..., StripeHTTP], authority: Authority) -> None:
    client, base_url = open_client(tls=authority.client()), await peer.play(answering, authority.server())
    assert await post(client, base_url) == (JSON, 200)
    assert await post(client, base_url) == (JSON, 200)
    assert peer.connections == 1


async def test_a_client_certificate_demanded_after_the_handshake_is_possibly_sent(
        peer: Peer, open_client: Callable[..., StripeHTTP], authority: Authority) -> None:
    demanding = authority.server()
    demanding.minimum_version = ssl.TLSVersion.TLSv1_3
    demanding.verify_mode = ssl.CERT_REQUIRED
    demanding.load_verify_locations(authority.certificate)
    failed = await failure(open_client(tls=authority.client()), await peer.play(answering, demanding))
    assert failed.possibly_sent


async def test_a_garbled_tls_record_after_the_request_is_possibly_sent(
        peer: Peer, open_client: Callable[..., StripeHTTP], authority: Authority) -> None:
    async def garbling(line: Line) -> None:
        await line.request()
        os.write(line.writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await line.silence()

    failed = await failure(open_client(tls=authority.client()), await peer.play(garbling, authority.server()))
    assert failed.possibly_sent
    assert len(peer.heard) == 1
