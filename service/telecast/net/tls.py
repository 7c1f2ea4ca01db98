"""A Wire that the event loop writes and reads: that of a connection with TLS."""

from __future__ import annotations

import asyncio

from telecast.net import wire


class TlsWire(wire.Wire, asyncio.Protocol):
    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport.get_extra_info("socket"))
        self._transport = transport
        self.send = self._hand_over
        transport.set_write_buffer_limits(high=wire.HIGH_WATER, low=wire.LOW_WATER)
        transport.set_protocol(self)

    def _hand_over(self, data: bytes) -> int:
        if self._transport.is_closing():
            # uvloop raises for a connection whose loss it has not reported yet.
            return len(data)
        self._transport.write(data)
        return -1 if self.full else len(data)

    def keep(self, data: bytes, taken: int) -> bool:
        return not self.full  # the transport has it

    def _held(self) -> int:
        try:
            return self._transport.get_write_buffer_size()
        except RuntimeError:
            return 0  # uvloop: it is lost

    def pause(self) -> None:
        if self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    def finish(self) -> None:
        self.send = wire.forget
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def abort(self) -> None:
        self.send = wire.forget
        self._transport.abort()

    def _let_go(self) -> None:
        self.send = wire.forget
        self._transport.close()

    # --- what the event loop calls

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self._has_room()

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.send = wire.forget
        self.full, self._when_drained = False, None
        self._report_end()
        self._report_gone()
