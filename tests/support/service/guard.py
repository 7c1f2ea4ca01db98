"""NATS servers that let in nobody but nodes with a client certificate, a user and a password."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from tests.support.service.certificate import Certificate, certify

WATCHER = "watcher"
"""The user of the tests themselves."""


class Guard:
    """`users` are those whom the servers let in once they have read their configuration."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.users = {WATCHER: "seen"}
        self._server = self._certified("server")
        self._clients: list[Certificate] = [self._certified(WATCHER)]

    def _certified(self, name: str) -> Certificate:
        folder = self._folder / name
        folder.mkdir(parents=True)
        return certify(folder, name)

    def client(self, name: str, password: str, number: int = 0) -> dict[str, Any]:
        """The settings of a node that is let in as this user: its certificate is a new one."""
        self.users[name] = password
        own = self._certified(f"{name}-{number}")
        self._clients.append(own)
        secret = own.cert.with_name("password")
        secret.write_text(f"{password}\n")
        return {
            "nats_user": name,
            "nats_password_file": secret,
            "nats_ca": self._server.cert,
            "nats_cert": own.cert,
            "nats_key": own.key,
        }

    def change(self, name: str, password: str) -> None:
        """Another password: the node's file has it, and the servers once they have read theirs."""
        self.users[name] = password
        for own in self._clients:
            secret = own.cert.with_name("password")
            if own.cert.parent.name.rpartition("-")[0] == name:
                secret.write_text(f"{password}\n")

    def forget(self, name: str) -> None:
        del self.users[name]
        self._clients = [
            each for each in self._clients if each.cert.parent.name.rpartition("-")[0] != name
        ]

    @property
    def config(self) -> str:
        """The part of nats.conf. A certificate counts as known because the servers trust it."""
        known = self._folder / "known.pem"
        draft = known.with_suffix(".draft")
        draft.write_text("".join(each.cert.read_text() for each in self._clients))
        draft.replace(known)  # a server may be reading it
        users = ", ".join(f"{{ user: {n}, password: {p} }}" for n, p in self.users.items())
        return (
            f'tls {{ cert_file: "{self._server.cert}", key_file: "{self._server.key}", '
            f'ca_file: "{known}", verify: true }}\n'
            f"authorization {{ users: [{users}] }}\n"
        )

    def way_in(self) -> dict[str, Any]:
        """How the tests themselves connect, as options of nats-py."""
        context = ssl.create_default_context(cafile=self._server.cert)
        context.load_cert_chain(self._clients[0].cert, self._clients[0].key)
        return {"tls": context, "user": WATCHER, "password": self.users[WATCHER]}
