"""Nchan: nginx with the module for broadcasting, one worker, by a configuration of our own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.base import Place, Running, server
from bench.tools import Publication, Subscription, get, post, upgrade

MODULES = (
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
)
# Enough is kept for a subscriber that is seconds behind: the default, 10 messages, would lose some.
CONFIGURATION = """
load_module {module};
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    tcp_nodelay on;
    nchan_shared_memory_size 512m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        keepalive_requests 1000000000;
        location = /publish {{
            nchan_publisher http;
            nchan_channel_id bench;
            nchan_message_buffer_length 50000;
            nchan_message_timeout 60s;
        }}
        location = /subscribe {{
            nchan_subscriber websocket eventsource;
            nchan_channel_id bench;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


def _module() -> str | None:
    return next((path for path in MODULES if Path(path).exists()), None)


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Nchan:
    name = "nchan"
    title = "Nchan (nginx)"
    transports = ("ws", "sse")

    def missing(self) -> str | None:
        if _nginx() and _module():
            return None
        return "apt-get install nginx libnginx-mod-nchan"

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        nginx = _nginx()
        assert nginx is not None
        configuration = place.folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                module=_module(),
                folder=place.folder,
                port=place.port,
                # Its worker must be able to write into a folder that is ours alone.
                user="user root;" if os.geteuid() == 0 else "",
            )
        )
        stream = (
            upgrade("/subscribe")
            if place.transport == "ws"
            else get("/subscribe", "Accept: text/event-stream")
        )
        with server(place, [nginx, "-p", place.folder, "-c", configuration]) as pid:
            yield Running(
                pid=pid,
                place=place,
                subscription=Subscription(request=stream),
                publication=Publication(kind="http", request=post("/publish", "application/json")),
            )
