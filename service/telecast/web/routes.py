"""Every path of the service, on one page."""

from __future__ import annotations

from aiohttp import web

from telecast.web.api import (
    alerts,
    audit,
    channels,
    clients,
    consumers,
    contracts,
    health,
    keys,
    metrics,
    publish,
    rows,
    sessions,
    stats,
)
from telecast.web.nodes import calls as nodes
from telecast.web.page import files
from telecast.web.streams import sse, ws

API = "/api/v1"


def routes() -> list[web.RouteDef]:
    return [
        web.get("/ws/telemetry", ws.telemetry, allow_head=False),
        web.get("/sse/telemetry", sse.telemetry, allow_head=False),
        web.post("/sse/telemetry", sse.selected),
        web.route("QUERY", "/sse/telemetry", sse.selected),
        web.get(f"{API}/channels", channels.catalogue),
        web.get(f"{API}/channels/{{channel}}", channels.channel),
        web.get(f"{API}/channels/{{channel}}/snapshot", channels.snapshot),
        web.get(f"{API}/channels/{{channel}}/events", channels.history),
        web.post(f"{API}/channels/{{channel}}/events", publish.publish),
        web.post(f"{API}/channels/{{channel}}/alive", publish.alive),
        web.get(f"{API}/channels/{{channel}}/rows/{{key:.+}}", rows.row),
        web.get(f"{API}/channels/{{channel}}/rows", rows.row),
        web.delete(f"{API}/channels/{{channel}}/rows/{{key:.+}}", publish.withdraw),
        web.delete(f"{API}/channels/{{channel}}/rows", publish.withdraw),
        web.post(f"{API}/{{channel}}/{{id:[^/]+}}/acknowledge", alerts.acknowledge),
        web.post(f"{API}/{{channel}}/{{id:[^/]+}}/unacknowledge", alerts.unacknowledge),
        web.get(f"{API}/audit", audit.audit),
        web.get(f"{API}/keys/{{id}}", keys.key),
        web.post(f"{API}/tickets", sessions.ticket),
        web.get(f"{API}/session", sessions.read_session),
        web.post(f"{API}/session", sessions.open_session),
        web.delete(f"{API}/session", sessions.close_session),
        web.post(f"{API}/clients/ack", consumers.acknowledge),
        web.get(f"{API}/consumers", consumers.listing),
        web.delete(f"{API}/consumers", consumers.forget),
        web.get(f"{API}/clients", clients.listing),
        web.delete(f"{API}/clients", clients.kick_many),
        web.get(f"{API}/clients/{{connection_id}}", clients.read),
        web.delete(f"{API}/clients/{{connection_id}}", clients.kick),
        web.get(f"{API}/stats", stats.read),
        web.get(f"{API}/nodes", nodes.nodes),
        web.delete(f"{API}/nodes/{{node}}", nodes.forget),
        web.get("/", files.page),
        web.get("/page/{name:.+}", files.asset),
        web.get("/client/{name}", files.client),
        web.get("/docs", contracts.page),
        web.get("/openapi.json", contracts.openapi_document),
        web.get("/asyncapi.json", contracts.asyncapi_document),
        web.get("/types.d.ts", contracts.typescript_types),
        web.get("/types.py", contracts.python_module),
        web.get("/livez", health.livez),
        web.get("/readyz", health.readyz),
        web.get("/metrics", metrics.metrics),
    ]
