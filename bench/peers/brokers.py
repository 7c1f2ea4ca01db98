"""Centrifugo and Mercure, where their programs are on PATH.

Configured as their documentation has it for one node and anonymous subscribers. Their packages are
in no registry that this project's machines reach: the adapters are written from the documents.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from bench.peers.base import Place, Running, server
from bench.tools import Publication, Subscription, get, post, upgrade

SECRET = "a secret of a benchmark, which listens on loopback only"  # noqa: S105 - it guards nothing


class Centrifugo:
    """Version 6. WebSocket with its JSON protocol; published to over its HTTP API."""

    name = "centrifugo"
    title = "Centrifugo"
    doors = ("ws",)

    def missing(self) -> str | None:
        return None if shutil.which("centrifugo") else "there is no centrifugo on PATH"

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        configuration = place.folder / "centrifugo.json"
        configuration.write_text(
            json.dumps(
                {
                    "http_server": {"address": "127.0.0.1", "port": place.port},
                    "client": {"insecure": True},
                    "http_api": {"insecure": True},
                    "log": {"level": "error"},
                }
            )
        )
        hello = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"bench"}}'
        # One core: Go would otherwise start as many workers as the machine has.
        env = {"GOMAXPROCS": "1"}
        with server(place, ["centrifugo", "--config", configuration], env=env) as pid:
            yield Running(
                pid=pid,
                place=place,
                subscription=Subscription(
                    request=upgrade("/connection/websocket"), hello=hello, dialect="centrifugo"
                ),
                publication=Publication(
                    kind="http",
                    request=post("/api/publish", "application/json"),
                    before='{"channel":"bench","data":',
                    after="}",
                ),
            )


class Mercure:
    """The hub with its local transport, which keeps no history; published to by form."""

    name = "mercure"
    title = "Mercure"
    doors = ("sse",)

    def missing(self) -> str | None:
        return None if shutil.which("mercure") else "there is no mercure on PATH"

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        configuration = place.folder / "Caddyfile"
        configuration.write_text(
            f"{{\n\tauto_https off\n\tadmin off\n}}\nhttp://127.0.0.1:{place.port} {{\n"
            f'\tmercure {{\n\t\tpublisher_jwt "{SECRET}"\n\t\tanonymous\n'
            "\t\ttransport local\n\t}\n}\n"
        )
        command = ["mercure", "run", "--config", configuration, "--adapter", "caddyfile"]
        hub = "/.well-known/mercure"
        with server(place, command, env={"GOMAXPROCS": "1"}) as pid:
            yield Running(
                pid=pid,
                place=place,
                subscription=Subscription(
                    request=get(f"{hub}?topic=bench", "Accept: text/event-stream")
                ),
                publication=Publication(
                    kind="http",
                    request=post(
                        hub, "application/x-www-form-urlencoded", f"Authorization: Bearer {token()}"
                    ),
                    before="topic=bench&data=",
                ),
            )


def token() -> str:
    """A JWT (RFC 7519, HS256) that may publish everything."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head, claims = {"alg": "HS256", "typ": "JWT"}, {"mercure": {"publish": ["*"]}}
    signed = ".".join(part(json.dumps(each).encode()) for each in (head, claims))
    mac = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{part(mac)}"
