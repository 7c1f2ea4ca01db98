"""The server of the dashboard: it holds the key, and gives the page a ticket for each stream.

Needs aiohttp. Telecast must know the page's origin:
telecast serve --allowed-origins http://127.0.0.1:8090
"""

import os
import pathlib

import aiohttp
from aiohttp import web

URL = os.environ.get("TELECAST_URL", "http://127.0.0.1:8080")
KEY = {"X-API-Key": os.environ["TELECAST_KEY"]}
PAGE = pathlib.Path(__file__).with_name("index.html")


async def ask(method, path):
    try:
        async with (
            aiohttp.ClientSession(URL, headers=KEY) as http,
            http.request(method, path) as answer,
        ):
            body = await answer.read()
    except aiohttp.ClientError as away:
        raise web.HTTPServiceUnavailable(text=f"Telecast is away: {away}") from None
    if answer.status >= 400:
        raise web.HTTPBadGateway(body=body)
    return body


async def page(request):
    return web.FileResponse(PAGE)


async def where(request):
    return web.json_response({"url": URL})


async def ticket(request):
    # Here your own sign-in says who may see what: this sample lets everybody in who reaches it.
    answer = await ask("POST", "/api/v1/tickets")
    return web.Response(body=answer, content_type="application/json")


async def script(request):
    return web.Response(
        body=await ask("GET", "/client/telecast.js"), content_type="text/javascript"
    )


app = web.Application()
app.add_routes([web.get("/", page), web.get("/where", where), web.get("/telecast.js", script)])
app.add_routes([web.post("/ticket", ticket)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8090")))
