"""The nodes of one stream, over the servers' plain messages (core NATS).

Each node says every two seconds that it is there, with some facts about itself, and on its way out
that it goes. So every node knows whom an answer is missing from. A node that is silent is kept in
the list for a minute: long enough for an operator to see that something is wrong with it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from telecast.errors import TelecastError
from telecast.journal.jetstream.servers import TROUBLE, Servers
from telecast.journal.peers import ASK_SECONDS, SILENT_SECONDS, Answer, Handler, Peer, Peers

log = logging.getLogger(__name__)

HERE_SECONDS = 2.0
FORGOTTEN_SECONDS = 60.0
MOST_QUESTIONS = 64
"""Questions of others that are being answered at a time; one more is answered with why not, and
counted."""
REFUSED_SECONDS = 10.0
"""The log says no more often than this that questions are refused."""
TOO_MUCH = "It is asked too much at once."
HERE, GONE = "here", "gone"


def node_name() -> str:
    """Readable, and not the same for two processes."""
    host = "".join(each for each in socket.gethostname() if each.isalnum() or each in "-_")
    return f"{host[:32] or 'node'}-{secrets.token_hex(2)}"


@dataclass(slots=True)
class _Seen:
    facts: Mapping[str, Any]
    at: float


class NatsPeers(Peers):
    def __init__(self, servers: Servers) -> None:
        self.node = node_name()
        self._servers = servers
        self._prefix = ""
        self._seen: dict[str, _Seen] = {}
        self._handlers: dict[str, Handler] = {}
        self._describe: Callable[[], Mapping[str, Any]] = dict
        self._subscription: Subscription | None = None
        self._beat: asyncio.Task[None] | None = None
        self._saying: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._refusal_logged = -REFUSED_SECONDS

    def place(self, prefix: str) -> None:
        """Where the nodes of this stream meet: a beginning of subjects that nobody stores."""
        self._prefix = prefix

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def others(self) -> tuple[Peer, ...]:
        now = self._now()
        for node in [n for n, seen in self._seen.items() if now - seen.at > FORGOTTEN_SECONDS]:
            del self._seen[node]
        return tuple(
            Peer(node, seen.facts, max(0.0, now - seen.at))
            for node, seen in sorted(self._seen.items())
        )

    def on(self, kind: str, handler: Handler) -> None:
        self._handlers[kind] = handler

    # --- being there

    async def begin(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        self._describe = describe
        self._subscription = await self._servers.listen(f"{self._prefix}.*", self._take)
        self._beat = asyncio.create_task(self._stay())

    async def _stay(self) -> None:
        first = True
        while True:
            # A newcomer asks who is there, and is answered at once.
            await self._publish(HERE, {"facts": dict(self._describe()), "new": first})
            first = False
            await asyncio.sleep(HERE_SECONDS)

    async def end(self) -> None:
        if self._beat is None:
            return
        self._beat.cancel()
        self._beat = None
        for task in (*self._saying, *self._answering):
            task.cancel()
        await self._publish(GONE, {})
        if self._subscription is not None:
            try:
                await self._subscription.unsubscribe()
            except TROUBLE as error:
                log.debug("the servers forget by themselves", extra={"reason": repr(error)})

    async def _publish(self, kind: str, body: dict[str, Any], reply: str = "") -> bool:
        data = orjson.dumps({"node": self.node, **body})
        try:
            await self._servers.publish(f"{self._prefix}.{kind}", data, reply)
        except (TelecastError, *TROUBLE) as error:
            log.debug("not said to other nodes", extra={"kind": kind, "reason": repr(error)})
            return False
        return True

    # --- asking

    def say(self, kind: str, body: Any) -> None:
        _start(self._saying, self._say(kind, body))

    async def _say(self, kind: str, body: Any) -> None:
        await self._publish(kind, {"body": body})

    async def ask(self, kind: str, body: Any) -> tuple[Answer, ...]:
        others = self.others()
        missing = {peer.node for peer in others}
        expected = {peer.node for peer in others if peer.silent < SILENT_SECONDS}
        answers: dict[str, Answer] = {}
        enough = asyncio.Event()

        async def take(message: Msg) -> None:
            said = orjson.loads(message.data)
            answers[said["node"]] = Answer(said["node"], said.get("body"), said.get("why"))
            if expected <= answers.keys():
                enough.set()

        try:
            inbox, subscription = await self._servers.subscribe(take)
        except (TelecastError, *TROUBLE) as error:
            log.debug("nobody can be asked", extra={"reason": repr(error)})
        else:
            if await self._publish(kind, {"body": body}, inbox) and expected:
                try:
                    async with asyncio.timeout(ASK_SECONDS):
                        await enough.wait()
                except TimeoutError:
                    log.warning(
                        "not all nodes have answered",
                        extra={"kind": kind, "missing": sorted(expected - answers.keys())},
                    )
            try:
                await subscription.unsubscribe()
            except TROUBLE as error:
                log.debug("the servers forget by themselves", extra={"reason": repr(error)})
        for node in missing - answers.keys():
            answers[node] = Answer(node, why=f"It did not answer within {ASK_SECONDS:g} s.")
        return tuple(answers[node] for node in sorted(answers))

    # --- being asked

    async def _take(self, message: Msg) -> None:
        said, kind = orjson.loads(message.data), message.subject.rpartition(".")[2]
        node = said["node"]
        if node == self.node:
            return
        if kind == GONE:
            self._seen.pop(node, None)
        elif kind == HERE:
            self._seen[node] = _Seen(said["facts"], self._now())
            if said.get("new"):
                await self._publish(HERE, {"facts": dict(self._describe())})
        elif (handler := self._handlers.get(kind)) is not None:
            if len(self._answering) >= MOST_QUESTIONS:
                await self._refuse(kind, message.reply)
            else:
                answer = self._answer(handler, said.get("body"), message.reply)
                _start(self._answering, answer)

    async def _refuse(self, kind: str, reply: str) -> None:
        self.refused += 1
        now = self._now()
        if now - self._refusal_logged >= REFUSED_SECONDS:
            self._refusal_logged = now
            log.warning(
                "questions of other nodes are refused: too many at once",
                extra={"kind": kind, "refused": self.refused},
            )
        if reply:
            await self._reply(reply, {"node": self.node, "why": TOO_MUCH})

    async def _answer(self, handler: Handler, body: Any, reply: str) -> None:
        answer: dict[str, Any] = {"node": self.node}
        try:
            answer["body"] = await handler(body)
        except TelecastError as fault:
            answer["why"] = fault.message
        except Exception:
            log.exception("a question of another node was not answered")
            answer["why"] = "Something broke there; its log has it."
        if reply:
            await self._reply(reply, answer)

    async def _reply(self, reply: str, answer: dict[str, Any]) -> None:
        data = orjson.dumps(answer)
        if len(data) > self._servers.max_payload:
            data = orjson.dumps(
                {"node": self.node, "why": "Its answer is too long: ask for fewer at a time."}
            )
        try:
            await self._servers.publish(reply, data)
        except (TelecastError, *TROUBLE) as error:
            log.debug("an answer did not get away", extra={"reason": repr(error)})


def _start(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
