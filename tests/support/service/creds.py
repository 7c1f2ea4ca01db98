"""NATS users that come with a credentials file: an operator, an account and signed claims.

The claims are those of docs.nats.io, "Decentralized JWT Authentication"; they are signed here, so
that no test needs `nsc`.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import nkeys

_PREFIXES = {"operator": nkeys.PREFIX_BYTE_OPERATOR, "account": nkeys.PREFIX_BYTE_ACCOUNT}
UNLIMITED = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1}
STORAGE = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}


class Authority:
    """An operator with one account. Servers with `config` let in whoever has `credentials`."""

    def __init__(self) -> None:
        self._operator = _made("operator")
        self._account = _made("account")
        self._system = _made("account")

    @property
    def config(self) -> str:
        """The part of nats.conf."""
        system = _name(self._system)
        operator = _signed(self._operator, self._operator, "operator", {"system_account": system})
        plain = {**UNLIMITED, "leaf": -1, "wildcards": True}
        accounts = {
            each: _signed(self._operator, pair, "account", {"limits": limits})
            for pair, limits in ((self._system, plain), (self._account, {**plain, **STORAGE}))
            for each in (_name(pair),)
        }
        return (
            f"operator: {operator}\nsystem_account: {system}\n"
            f"resolver: MEMORY\nresolver_preload: {json.dumps(accounts)}\n"
        )

    def credentials(self, path: Path) -> Path:
        """The file of a new user."""
        user = _made("user")
        claims = {"subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}
        token = _signed(self._account, user, "user", claims)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n"
            "------END USER NKEY SEED------\n"
        )
        return path


def _made(kind: str) -> Any:
    prefix = _PREFIXES.get(kind, nkeys.PREFIX_BYTE_USER)
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))


def _name(pair: Any) -> str:
    return str(pair.public_key.decode())


def _signed(by: Any, whose: Any, kind: str, claims: dict[str, Any]) -> str:
    said = {
        "jti": _name(whose),
        "iat": 1_700_000_000,
        "iss": _name(by),
        "name": kind,
        "sub": _name(whose),
        "nats": {**claims, "type": kind, "version": 2},
    }
    text = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(said)}"
    return f"{text}.{_plain(by.sign(text.encode()))}"


def _part(value: dict[str, Any]) -> str:
    return _plain(json.dumps(value).encode())


def _plain(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
