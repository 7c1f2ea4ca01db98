"""The name of a journal's life."""

from __future__ import annotations

import re
import secrets
import string

_ALPHABET = string.digits + string.ascii_lowercase
_EPOCH = re.compile(r"[0-9a-z]{4,16}", re.ASCII)


def new_epoch() -> str:
    """Eight random characters: of 2.8e12 names no two lives of one service meet."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def is_epoch(text: object) -> bool:
    return isinstance(text, str) and _EPOCH.fullmatch(text) is not None
