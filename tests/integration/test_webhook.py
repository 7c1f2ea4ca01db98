"""Escalated alerts reach a web hook once, signed; one that hangs, redirects or lies inside does no
harm."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from telecast import webhook
from telecast.cli.admin.config import _shown
from telecast.config import load_settings
from telecast.errors import SettingsError
from telecast.webhook import Webhook, read_secret
from tests.support.payloads import alert
from tests.support.service.live import principal, served

SECRET = bytes(range(32))
ROW = {"id": "a1", "escalatedAt": "2026-11-27T10:00:00Z", "message": "The loss is at its limit."}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """Answers as it was asked to, and keeps what it got."""

    def __init__(self, *answers: int | Answer) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers = list(answers)
        self.url = ""
        self.come = asyncio.Event()

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.got.append((dict(request.headers), await request.read()))
        self.come.set()
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, int):
            return web.Response(status=answer, headers={"Location": self.url + "elsewhere"})
        return await answer(request)


@asynccontextmanager
async def receiving(*answers: int | Answer) -> AsyncIterator[Receiver]:
    receiver = Receiver(*answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    receiver.url = f"http://127.0.0.1:{port}/"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def sending(hook: Webhook) -> AsyncIterator[Webhook]:
    task = asyncio.create_task(hook.run())
    try:
        yield hook
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class Pauses:
    """Stands in for waiting, and says how long it would have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def alerts(receiver: Receiver) -> list[str]:
    return [orjson.loads(body)["data"]["alert"]["id"] for _, body in receiver.got]


async def settled(hook: Webhook) -> None:
    async with asyncio.timeout(20):
        await hook.idle.wait()
    assert len(hook) == 0


def hook_to(url: str, **options: Any) -> Webhook:
    return Webhook(url, SECRET, inside=True, now=lambda: 1_800_000_000.0, **options)


async def test_an_escalated_alert_arrives_signed_as_standard_webhooks_say() -> None:
    async with receiving() as receiver, sending(hook_to(receiver.url + "path?key=1")) as hook:
        hook.escalated("risk-alerts", ROW)
        await settled(hook)
        ((headers, body),) = receiver.got
        assert orjson.loads(body) == {
            "type": "alert.escalated",
            "timestamp": "2027-01-15T08:00:00.000Z",
            "data": {"channel": "risk-alerts", "alert": ROW},
        }
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.new(SECRET, signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        assert headers["webhook-timestamp"] == "1800000000"
        assert hook.outcomes == {"delivered": 1}


async def test_it_is_tried_again_with_growing_pauses_and_keeps_its_id() -> None:
    pauses = Pauses()
    async with receiving(500, 503, 429, 408) as receiver:
        async with sending(hook_to(receiver.url, pause=pauses)) as hook:
            hook.escalated("risk-alerts", ROW)
            await settled(hook)
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert hook.outcomes == {"retried": 4, "delivered": 1}
    for number, seconds in enumerate(pauses.seconds):
        assert 2**number <= seconds <= 2 ** (number + 1)


async def test_a_delivery_that_is_never_taken_is_given_up() -> None:
    async with receiving(*[500] * webhook.TRIES) as receiver:
        async with sending(hook_to(receiver.url, pause=Pauses())) as hook:
            hook.escalated("risk-alerts", ROW)
            await settled(hook)
        assert len(receiver.got) == webhook.TRIES
    assert (hook.outcomes["failed"], hook.outcomes["delivered"]) == (1, 0)


class Held:
    """Stands in for a pause that is not over until `over` is set."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.begun.set()
        await self.over.wait()


async def test_an_alert_that_is_rejected_holds_up_no_other() -> None:
    held = Held()
    async with receiving(500) as receiver, sending(hook_to(receiver.url, pause=held)) as hook:
        hook.escalated("risk-alerts", ROW)
        await held.begun.wait()
        receiver.come.clear()
        hook.escalated("risk-alerts", ROW | {"id": "a2"})
        async with asyncio.timeout(20):
            await receiver.come.wait()
        held.over.set()
        await settled(hook)
        assert alerts(receiver) == ["a1", "a2", "a1"]
    assert hook.outcomes == {"retried": 1, "delivered": 2}


async def test_the_second_escalation_of_an_alert_waits_for_the_first() -> None:
    held = Held()
    later = ROW | {"escalatedAt": "2026-11-27T11:00:00Z"}
    async with receiving(500) as receiver, sending(hook_to(receiver.url, pause=held)) as hook:
        hook.escalated("risk-alerts", ROW)
        hook.escalated("risk-alerts", later)
        await held.begun.wait()
        receiver.come.clear()
        hook.escalated("risk-alerts", ROW | {"id": "a2"})
        await receiver.come.wait()
        held.over.set()
        await settled(hook)
        at = [
            sent["escalatedAt"]
            for sent in (orjson.loads(body)["data"]["alert"] for _, body in receiver.got)
            if sent["id"] == "a1"
        ]
    assert at == [ROW["escalatedAt"], ROW["escalatedAt"], later["escalatedAt"]]


async def test_so_many_requests_are_under_way_at_a_time_and_no_more() -> None:
    go_on, most = asyncio.Event(), asyncio.Event()
    under_way: list[int] = []

    async def hang(_: web.Request) -> web.Response:
        under_way.append(1)
        if len(under_way) == webhook.MOST_SENDING:
            most.set()
        await go_on.wait()
        under_way.pop()
        return web.Response()

    number = webhook.MOST_SENDING + 2
    async with receiving(*[hang] * number) as receiver, sending(hook_to(receiver.url)) as hook:
        for each in range(number):
            hook.escalated("risk-alerts", ROW | {"id": f"a{each}"})
        async with asyncio.timeout(20):
            await most.wait()
        assert hook._slots.locked()
        assert len(receiver.got) == webhook.MOST_SENDING
        go_on.set()
        await settled(hook)
        assert len(receiver.got) == number


async def test_one_that_waits_for_its_next_try_goes_when_too_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook, "MOST_WAITING", 1)
    held = Held()
    async with receiving(500) as receiver, sending(hook_to(receiver.url, pause=held)) as hook:
        hook.escalated("risk-alerts", ROW)
        await held.begun.wait()
        hook.escalated("risk-alerts", ROW | {"id": "a2"})
        await settled(hook)
        held.over.set()
        hook.escalated("risk-alerts", ROW | {"id": "a3"})
        await settled(hook)
        assert alerts(receiver) == ["a1", "a2", "a3"]
    assert hook.outcomes == {"retried": 1, "dropped": 1, "delivered": 2}


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410])
async def test_a_redirect_or_a_refusal_is_not_followed_and_not_tried_again(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving(status) as receiver:
        async with sending(hook_to(receiver.url + "in-the-path", pause=Pauses())) as hook:
            hook.escalated("risk-alerts", ROW)
            await settled(hook)
        assert len(receiver.got) == 1
    assert hook.outcomes == {"failed": 1}
    (said,) = [str(each.__dict__) for each in caplog.records if each.levelno == logging.ERROR]
    assert str(status) in said
    assert "in-the-path" not in said, "an address's path may be a secret"


async def test_a_receiver_that_hangs_is_left_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", webhook.aiohttp.ClientTimeout(total=0.05))
    over = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    async with receiving(hang) as receiver:
        async with sending(hook_to(receiver.url, pause=Pauses())) as hook:
            hook.escalated("risk-alerts", ROW)
            await settled(hook)
        over.set()
    assert hook.outcomes == {"retried": 1, "delivered": 1}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_an_address_inside_is_never_connected_to_unless_it_is_allowed(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", host)
        async with sending(Webhook(url, SECRET, pause=Pauses())) as hook:
            hook.escalated("risk-alerts", ROW)
            await settled(hook)
        assert receiver.got == []
    assert hook.outcomes == {"failed": 1}
    assert "no public address" in str(caplog.records[-1].__dict__)


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        *((each, True) for each in ("10.0.0.7", "169.254.169.254", "192.168.1.1", "100.64.0.1")),
        *((each, True) for each in ("0.0.0.0", "::1", "fe80::1%eth0", "fd00::1", "224.0.0.1")),
        *((each, True) for each in ("::ffff:10.0.0.7", "::", "ff02::1")),
        # What a gateway would make an address inside of.
        *((each, True) for each in ("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:a00:7::1")),
        *((each, True) for each in ("::127.0.0.1", "fec0::1")),
        *((each, False) for each in ("8.8.8.8", "2001:4860:4860::8888")),
        *((each, False) for each in ("64:ff9b::808:808", "2002:808:808::1")),
    ],
)
def test_which_addresses_are_public(address: str, refused: bool) -> None:
    hook = Webhook("https://hooks.example/", SECRET)
    family = 10 if ":" in address else 2
    info = (family, 1, 6, "", (address, 443))
    if refused:
        with pytest.raises(webhook.InsideAddress):
            hook._open_socket(info)
    else:
        hook._open_socket(info).close()


async def test_what_waits_is_bounded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "MOST_WAITING", 2)
    async with receiving() as receiver:
        hook = hook_to(receiver.url)
        for number in range(4):
            hook.escalated("risk-alerts", ROW | {"id": f"a{number}"})
        assert len(hook) == 2
        async with sending(hook):
            await settled(hook)
        sent = alerts(receiver)
    assert sorted(sent) == ["a2", "a3"]
    assert hook.outcomes == {"dropped": 2, "delivered": 2}


async def test_what_is_under_way_is_not_dropped_for_what_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook, "MOST_WAITING", 1)
    go_on = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response()

    async with receiving(hang) as receiver, sending(hook_to(receiver.url)) as hook:
        hook.escalated("risk-alerts", ROW | {"id": "a0"})
        await receiver.come.wait()
        hook.escalated("risk-alerts", ROW | {"id": "a1"})
        hook.escalated("risk-alerts", ROW | {"id": "a2"})
        go_on.set()
        await settled(hook)
        sent = alerts(receiver)
    assert sent == ["a0", "a2"]
    assert hook.outcomes == {"dropped": 1, "delivered": 2}, "each has one outcome"


async def test_a_service_sends_what_it_escalates(tmp_path: Path) -> None:
    secret = tmp_path / "webhook.secret"
    secret.write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    clock = [1_800_000_000.0]
    async with receiving() as receiver:
        settings = {
            "escalate_url": receiver.url,
            "escalate_secret_file": secret,
            "escalate_inside": True,
        }
        async with served(
            principal(), now=lambda: clock[0], escalate_after=300.0, **settings
        ) as live:
            await live.publish("risk-alerts", alert("a1", severity="CRITICAL"))
            clock[0] += 301
            await live.parts.alerts[0].look()
            await settled(live.parts.webhook)
            ((_, body),) = receiver.got
            sent = orjson.loads(body)["data"]["alert"]
            assert (sent["id"], sent["escalatedAt"] is not None) == ("a1", True)
            async with live.session.get(
                f"{live.url}/metrics", headers=live.headers("desk")
            ) as answer:
                text = await answer.text()
            assert 'telecast_webhook_total{outcome="delivered"} 1' in text
            assert "telecast_webhook_waiting 0" in text


@pytest.mark.parametrize(
    "content",
    ["", "no-whsec-before-it", "whsec_", "whsec_c2hvcnQ=", "whsec_ä", "whsec_*" + "A" * 40],
)
def test_a_secret_that_is_none_is_refused_without_being_shown(tmp_path: Path, content: str) -> None:
    path = tmp_path / "webhook.secret"
    path.write_text(content, "utf-8")
    with pytest.raises(SettingsError) as caught:
        read_secret(path)
    (problem,) = caught.value.problems
    assert "openssl rand" in problem
    assert content.removeprefix("whsec_") == "" or content not in problem


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
def test_a_secret_that_others_can_open_is_warned_of(
    mode: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "webhook.secret"
    path.write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    path.chmod(mode)
    assert read_secret(path) == SECRET
    assert ("Others can open" in caplog.text) == (mode != 0o600)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"escalate_url": "https://hooks.example/a"}, "one is set without the other"),
        ({"escalate_url": "http://hooks.example/a", "secret": True}, "in the clear"),
        ({"escalate_url": "https://me:pw@hooks.example/a"}, "right would be an address such as"),
        ({"escalate_url": "ftp://hooks.example/a"}, "right would be an address such as"),
    ],
)
def test_settings_that_do_not_fit_together_are_named(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    if settings.pop("secret", False):
        (tmp_path / "s").write_text("x")
        settings["escalate_secret_file"] = str(tmp_path / "s")
    with pytest.raises(SettingsError) as caught:
        load_settings({"journal": "memory:", **settings})
    assert said in "\n".join(caught.value.problems)


def test_the_path_of_the_address_is_not_shown() -> None:
    assert _shown("https://hooks.example/services/T0/B0", web=True) == "https://hooks.example/..."
