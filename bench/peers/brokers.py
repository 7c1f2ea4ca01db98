"""Centrifugo and Mercure, where their programs are on PATH.

One node each, configured as their documentation has it for production: subscribers come with a JWT,
everything that is about load is left as it is by default. Neither calls home nor writes outside
its folder.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from bench.peers.base import Place, Running, server
from bench.tools import Publication, Subscription, get, post, upgrade

SECRET = "a secret of a benchmark, which listens on loopback only"  # noqa: S105 - it guards nothing
# Its core is one: Go would find that out itself, and so the table need not rely on it.
ONE_CORE = {"GOMAXPROCS": "1"}

CADDYFILE = """\
{{
    auto_https off
    admin off
    persist_config off
    log {{
        level ERROR
    }}
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    mercure {{
        publisher_jwt "{secret}"
        subscriber_jwt "{secret}"
        transport local
    }}
}}
"""


def token(claims: dict[str, Any]) -> str:
    """A JWT (RFC 7519) with these claims, signed with HS256."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = {"alg": "HS256", "typ": "JWT"}
    signed = ".".join(part(json.dumps(each).encode()) for each in (head, claims))
    mac = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{part(mac)}"


class Centrifugo:
    """Version 6. WebSocket with its JSON protocol, or its one-way SSE; fed over its HTTP API."""

    name = "centrifugo"
    title = "Centrifugo"
    transports = ("ws", "sse")

    def missing(self) -> str | None:
        return None if shutil.which("centrifugo") else "there is no centrifugo on PATH"

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        configuration = place.folder / "centrifugo.json"
        configuration.write_text(
            json.dumps(
                {
                    "http_server": {"address": "127.0.0.1", "port": place.port},
                    "client": {"token": {"hmac_secret_key": SECRET}},
                    "channel": {"without_namespace": {"allow_subscribe_for_client": True}},
                    "uni_sse": {"enabled": True},
                    # A publish that is refused is to be so by its status, not only in the body.
                    "http_api": {"key": SECRET, "error_mode": "transport"},
                    "usage_stats": {"disabled": True},
                    "log": {"level": "error"},
                }
            )
        )
        command = ["centrifugo", "--config", configuration]
        with server(place, command, env=ONE_CORE) as pid:
            yield Running(
                pid=pid,
                place=place,
                subscription=self.subscription(place.transport),
                publication=Publication(
                    kind="http",
                    request=post("/api/publish", "application/json", f"X-API-Key: {SECRET}"),
                    before='{"channel":"bench","data":',
                    after="}",
                ),
            )

    def subscription(self, transport: str) -> Subscription:
        connect: dict[str, Any] = {"token": token({"sub": "bench"})}
        if transport == "sse":
            connect["subs"] = {"bench": {}}
            path = f"/connection/uni_sse?cf_connect={quote(json.dumps(connect))}"
            request, hello = get(path, "Accept: text/event-stream"), ""
        else:
            commands = ({"connect": connect}, {"subscribe": {"channel": "bench"}})
            request = upgrade("/connection/websocket")
            hello = "\n".join(json.dumps({"id": n, **each}) for n, each in enumerate(commands, 1))
        return Subscription(request=request, hello=hello, dialect="centrifugo")


class Mercure:
    """Version 0.24. The hub with its local transport, which keeps no history; fed by form."""

    name = "mercure"
    title = "Mercure"
    transports = ("sse",)

    def missing(self) -> str | None:
        return None if shutil.which("mercure") else "there is no mercure on PATH"

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        configuration = place.folder / "Caddyfile"
        configuration.write_text(CADDYFILE.format(port=place.port, secret=SECRET))
        command = ["mercure", "run", "--config", configuration, "--adapter", "caddyfile"]
        # It is a Caddy, which keeps things in its user's home.
        homes = {"XDG_DATA_HOME": str(place.folder), "XDG_CONFIG_HOME": str(place.folder)}
        hub = "/.well-known/mercure"
        subscribe, publish = (
            f"Authorization: Bearer {token({'mercure': {what: ['*']}})}"
            for what in ("subscribe", "publish")
        )
        with server(place, command, env=ONE_CORE | homes) as pid:
            yield Running(
                pid=pid,
                place=place,
                subscription=Subscription(
                    request=get(f"{hub}?topic=bench", "Accept: text/event-stream", subscribe)
                ),
                publication=Publication(
                    kind="http",
                    request=post(hub, "application/x-www-form-urlencoded", publish),
                    # A price has nothing in it that a form's decoding would change.
                    before="topic=bench&data=",
                ),
            )
