"""The secret that browser sessions are signed with: a file of its own, made at the first start.

Whoever reads it can make sessions of any key, so it is kept as the keys would be if they were kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import stat
from pathlib import Path

from telecast.errors import SettingsError

log = logging.getLogger(__name__)

BYTES = 32
_TEXT = re.compile(r"([0-9a-f]{64})\n?", re.ASCII)


def new_signing_secret() -> bytes:
    """256 random bits."""
    return secrets.token_bytes(BYTES)


def signing_secret(path: Path) -> bytes:
    """The file's secret; without a file a new one is made, with mode 0600, durable on return.

    Raises SettingsError where it can't be read or made, or is no secret of ours.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SettingsError([f"secret_file: {path} can't be read: {error.strerror}."]) from error
    try:
        return _make(path)
    except FileExistsError:  # another process was faster by a hair: its secret is ours
        return signing_secret(path)
    except OSError as error:
        raise SettingsError([f"secret_file: {path} can't be made: {error.strerror}."]) from error


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        text = file.read(1024)
    match = _TEXT.fullmatch(text.decode("ascii", "replace"))
    if match is None:
        raise SettingsError(
            [
                f"secret_file: {path} must hold 64 hex digits and nothing else. Delete it to have "
                "a new one made; browsers then sign in again."
            ]
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning(
            "Others can open the secret file: chmod 600 it, or delete it for a new one.",
            extra={"path": str(path), "mode": oct(stat.S_IMODE(mode))},
        )
    return bytes.fromhex(match[1])


def _make(path: Path) -> bytes:
    secret = new_signing_secret()
    # Its content first, then its name, and no other's file under it: a crash leaves none or all.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secret.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        _name(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    log.info("a secret for browser sessions was made", extra={"path": str(path)})
    return secret


def _name(temporary: Path, path: Path) -> None:
    """Give it its name, if nobody has it. Raises FileExistsError."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links (FAT, some network and container mounts). The name is
        # taken first; a crash before the content moves there leaves an empty file, which is no
        # secret, and whose refusal says to delete it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.replace(temporary, path)
