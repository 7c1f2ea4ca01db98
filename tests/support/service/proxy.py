"""The proxies of the guide, started as it shows them in front of a service."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.service.certificate import certify
from tests.support.service.process import PATIENCE, free_port

GUIDE = Path(__file__).parents[3] / "docs" / "websocket-guide.md"
NAME = "telecast.example"
NGINX, CADDY = shutil.which("nginx"), shutil.which("caddy")
HAPROXY, APACHE = shutil.which("haproxy"), shutil.which("apache2")
SHIPPED = Path(__file__).parents[3] / "deploy" / "proxies"
CLUSTER = Path(__file__).parents[3] / "deploy" / "cluster"

_AROUND = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{server}
}}
"""


class Proxy:
    """A proxy that listens. `context` is for clients, who know its certificate."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.port = port
        self.host = f"{NAME}:{port}"
        self.context = context


def documented(language: str, word: str) -> str:
    """The one block of the guide in a language that has this word in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = (block for block in blocks if word in block)
    return str(found)


@asynccontextmanager
async def nginx(
    folder: Path, upstream: int, changes: Mapping[str, str] | None = None
) -> AsyncIterator[Proxy]:
    """The guide's nginx in front of a port; `changes` are made to its text, each must be there."""
    context = certify(folder, NAME).trusted()
    port = free_port()
    changes = {
        "127.0.0.1:8080": f"127.0.0.1:{upstream}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/ssl/telecast": f"{folder}/telecast",
        **(changes or {}),
    }
    server = _changed(documented("nginx", "upstream telecast"), changes)
    config = folder / "nginx.conf"
    config.write_text(_AROUND.format(folder=folder, server=server))
    assert NGINX is not None
    async with _running(NGINX, "-e", "stderr", "-c", str(config), says=b"event method"):
        yield Proxy(port, context)


@asynccontextmanager
async def caddy(folder: Path, upstream: int) -> AsyncIterator[Proxy]:
    """The guide's Caddy in front of a port, with a certificate that needs no one else."""
    context = certify(folder, NAME).trusted()
    port = free_port()
    tls = f"tls {folder}/telecast.pem {folder}/telecast.key"
    changes = {
        f"{NAME} {{": f"https://{NAME}:{port} {{\n    bind 127.0.0.1\n    {tls}",
        "127.0.0.1:8080": f"127.0.0.1:{upstream}",
    }
    config = folder / "Caddyfile"
    options = "{\n    admin off\n    auto_https disable_redirects\n}\n"
    site = _changed(documented("text", "reverse_proxy"), changes)
    config.write_text(options + site)
    assert CADDY is not None
    words = ("run", "--config", str(config), "--adapter", "caddyfile")
    async with _running(CADDY, *words, says=b"serving initial configuration", home=folder):
        yield Proxy(port, context)


@asynccontextmanager
async def haproxy(folder: Path, upstream: int) -> AsyncIterator[Proxy]:
    """HAProxy as deploy/proxies has it, in front of a port."""
    certificate = certify(folder, NAME)
    port = free_port()
    both = folder / "both.pem"
    both.write_bytes(certificate.cert.read_bytes() + certificate.key.read_bytes())
    changes = {
        "bind :443": f"bind 127.0.0.1:{port}",
        "/etc/ssl/telecast.pem": str(both),
        "127.0.0.1:8080": f"127.0.0.1:{upstream}",
        "/etc/haproxy/": f"{SHIPPED}/",
    }
    config = folder / "haproxy.cfg"
    config.write_text(_changed((SHIPPED / "haproxy.cfg").read_text(), changes))
    assert HAPROXY is not None
    async with _running(HAPROXY, "-W", "-db", "-f", str(config), says=b"Loading success"):
        yield Proxy(port, certificate.trusted())


@asynccontextmanager
async def cluster_nginx(folder: Path, nodes: Sequence[int]) -> AsyncIterator[Proxy]:
    """nginx as deploy/cluster has it, in front of the ports of three nodes."""
    context = certify(folder, NAME).trusted()
    port = free_port()
    inside = "daemon off;\nmaster_process off;\npid {0}/nginx.pid;\nerror_log stderr notice;\n"
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {place}_temp_path {folder}/{place};\n" for place in places)
    changes = {
        "worker_connections 20000": "worker_connections 512",
        "http {\n": "http {\n" + temporary,
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/ssl/telecast/telecast.pem": f"{folder}/telecast.pem",
        "/etc/ssl/telecast/telecast.key": f"{folder}/telecast.key",
        **_nodes(nodes),
    }
    config = folder / "nginx.conf"
    text = (CLUSTER / "nginx.conf").read_text()
    config.write_text(inside.format(folder) + _changed(text, changes))
    assert NGINX is not None
    async with _running(NGINX, "-e", "stderr", "-c", str(config), says=b"event method"):
        yield Proxy(port, context)


@asynccontextmanager
async def cluster_caddy(folder: Path, nodes: Sequence[int]) -> AsyncIterator[Proxy]:
    """Caddy as deploy/cluster has it, in front of the ports of three nodes."""
    context = certify(folder, NAME).trusted()
    port = free_port()
    changes = {
        "\tauto_https": "\tadmin off\n\tauto_https",
        "\n:443 {\n": f"\n:{port} {{\n\tbind 127.0.0.1\n",
        "/etc/ssl/telecast/telecast.pem": f"{folder}/telecast.pem",
        "/etc/ssl/telecast/telecast.key": f"{folder}/telecast.key",
        **_nodes(nodes),
    }
    config = folder / "Caddyfile"
    config.write_text(_changed((CLUSTER / "Caddyfile").read_text(), changes))
    assert CADDY is not None
    words = ("run", "--config", str(config), "--adapter", "caddyfile")
    async with _running(CADDY, *words, says=b"serving initial configuration", home=folder):
        yield Proxy(port, context)


def _nodes(ports: Sequence[int]) -> dict[str, str]:
    return {f"telecast-{index}:8080": f"127.0.0.1:{port}" for index, port in enumerate(ports, 1)}


_APACHE_AROUND = """
ServerRoot {folder}
PidFile {folder}/apache.pid
ErrorLog /dev/stderr
LogLevel notice
Listen 127.0.0.1:{port}
{modules}
{site}
"""


@asynccontextmanager
async def apache(folder: Path, upstream: int) -> AsyncIterator[Proxy]:
    """Apache as deploy/proxies has it, in front of a port."""
    assert APACHE is not None
    context = certify(folder, NAME).trusted()
    port = free_port()
    modules = f"{APACHE.removesuffix('/sbin/apache2')}/lib/apache2/modules"
    names = ("mpm_event", "authz_core", "setenvif", "headers", "socache_shmcb")
    names += ("ssl", "http2", "proxy", "proxy_http")
    loaded = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in names)
    changes = {
        "*:443": f"127.0.0.1:{port}",
        "/etc/ssl/telecast": f"{folder}/telecast",
        "127.0.0.1:8080": f"127.0.0.1:{upstream}",
    }
    site = _changed((SHIPPED / "apache.conf").read_text(), changes)
    config = folder / "apache.conf"
    config.write_text(_APACHE_AROUND.format(folder=folder, port=port, modules=loaded, site=site))
    words = ("-D", "FOREGROUND", "-f", str(config))
    async with _running(APACHE, *words, says=b"resuming normal operations"):
        yield Proxy(port, context)


def _changed(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def _running(
    program: str, *words: str, says: bytes, home: Path | None = None
) -> AsyncIterator[None]:
    """A process, once it has said that it is there; ended at the end."""
    process = await asyncio.create_subprocess_exec(
        *(program, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=None if home is None else {"HOME": str(home)},
    )
    assert process.stderr is not None
    said = b""
    listening: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            while says not in said:
                line = await process.stderr.readline()
                said += line
                assert line, said.decode()
        listening = asyncio.create_task(process.stderr.read())
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if listening is not None:
            await listening
