"""An event loop in a thread of its own, and calls into it that wait for their answer.

What holds: after `stop` no task runs, the thread has ended, and every call raises `Closed` at once.
No call waits for a loop that is not there: at the interpreter's end that would wait for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from telecast.client.faults import Closed

T = TypeVar("T")


class LoopThread:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._open = True
        self._lock = threading.Lock()
        self._late: set[asyncio.Task[Any]] = set()
        # A script that forgot to close its client may end all the same.
        self._thread = threading.Thread(target=self._run, name="telecast-client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which runs in the loop.

        An interrupt here (Ctrl-C, the stop button of a notebook) cancels the work, and is raised
        once that has ended. Raises `Closed` after `stop`, and where `stop` came into the midst;
        RuntimeError in the loop's thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "This is the client's thread, where a key function or a store runs: "
                "a call that blocks would wait for itself. Use a client of its own there."
            )
        answer: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(lambda task: _answer(answer, task))

        def give_up() -> None:
            if tasks:
                tasks[0].cancel()
            else:  # the interrupt came before `begin` was handed over
                work.close()
                answer.set_exception(Closed())

        try:
            with self._lock:
                if not self._open:
                    work.close()
                    answer.set_exception(Closed())
                    raise Closed
                self._loop.call_soon_threadsafe(begin)
            return answer.result()
        except BaseException:
            # An interrupt comes at any line, that of the hand-over too.
            if not answer.done() and self._hand_over(give_up):
                wait([answer])
            raise

    def _hand_over(self, act: Callable[[], None]) -> bool:
        """Have the loop do it; False after `stop`, which cancels all that runs."""
        with self._lock:
            if self._open:
                self._loop.call_soon_threadsafe(act)
            return self._open

    def do(self, act: Callable[[], T]) -> T:
        """Likewise for a function that does not wait: no step of the loop comes into its midst."""

        async def once() -> T:
            return act()

        return self.call(once())

    def end(self, work: Coroutine[Any, Any, Any]) -> None:
        """Like `call`, for what tidies up: the garbage collector may come to it in any thread, and
        after the end there is nothing to tidy up."""
        if threading.current_thread() is self._thread:
            task = self._loop.create_task(work)
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return
        try:
            self.call(work)
        except Closed:
            return

    def stop(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this as the last thing, cancel what still runs, and end the thread. Once is enough.

        The garbage collector may come to it in the loop's thread, which can't wait for itself.
        """
        with self._lock:
            if not self._open:
                return
            self._open = False
            future = asyncio.run_coroutine_threadsafe(self._wind_down(last), self._loop)
        future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        if threading.current_thread() is not self._thread:
            self._thread.join()
            future.result()

    async def _wind_down(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await last()
        finally:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._loop.shutdown_asyncgens()


def _answer(answer: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        answer.set_exception(Closed())
    elif fault := task.exception():
        answer.set_exception(fault)
    else:
        answer.set_result(task.result())
