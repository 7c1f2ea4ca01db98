"""The sockets that the service listens on: one for each address of each host that was named."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

from telecast.errors import SettingsError


def listen(hosts: Sequence[str], port: int, *, shared: bool = False) -> list[socket.socket]:
    """Bind a socket for each address; with port 0 all get the port that the first one got.

    `::` serves IPv4 too, unless an IPv4 host is named beside it. `shared`: other processes of this
    user may bind the same (SO_REUSEPORT); Linux spreads new connections over those that listen.
    Raises OSError, with the host in `filename`, and then nothing is left open.
    """
    with contextlib.ExitStack() as stack:
        found: list[socket.socket] = []
        for host in hosts:
            try:
                for family, address in _addresses(host):
                    alone = host != "::" or any(":" not in each for each in hosts)
                    bound = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                    if shared:
                        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    _bind(bound, address, port, alone=alone)
                    port = bound.getsockname()[1]
                    found.append(bound)
            except OSError as fault:
                fault.filename = host
                raise
        stack.pop_all()
        return found


def hold(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Keep a port, without listening on it, for processes that bind it `shared`.

    Raises OSError where somebody has it, also somebody who would share it.
    """
    for bound in listen(hosts, port):
        port = bound.getsockname()[1]
        bound.close()
    return listen(hosts, port, shared=True)


def port_fault(hosts: Sequence[str], port: int, fault: OSError) -> SettingsError:
    """What the operator reads of it."""
    where = f"{fault.filename or hosts[0]}:{port}"
    if fault.errno == errno.EADDRINUSE:
        message = f"Something listens on {where} already: stop it, or choose another --port."
    elif fault.errno in (errno.EACCES, errno.EPERM):
        message = f"This user may not listen on {where}: choose a --port above 1023."
    else:
        message = f"Can't listen on {where}: {fault.strerror or fault}"
    return SettingsError([message])


def _addresses(host: str) -> list[tuple[int, str]]:
    """(family, address) of a host, each once. Raises OSError for a name that nobody knows."""
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in infos))


def _bind(bound: socket.socket, address: str, port: int, *, alone: bool) -> None:
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(alone))
    bound.setblocking(False)
    bound.bind((address, port))
