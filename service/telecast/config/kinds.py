"""The kinds of value that a setting can have, as marshmallow fields.

Each takes the text of a flag or a variable as well as what TOML gives, and nothing that merely
resembles it: a slip is reported, not guessed at. `said` is the end of "right would be ...".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from marshmallow import fields
from marshmallow.exceptions import ValidationError

KIB, MIB = 1024, 1024 * 1024

WRONG = "it is not right"
"""What `said`, the bounds and the choices explain already; other messages add something."""

T = TypeVar("T")


class Kind(fields.Field[T]):
    said: str


class Whole(Kind[int]):
    said = "a whole number"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int:
        # int() also takes "1_000", " 7 " and other scripts' digits: each a slip more than a wish.
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value, re.ASCII):
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValidationError(WRONG)


class Size(Whole):
    said = "a size such as 65536, 64KiB or 8MiB"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int:
        match = re.fullmatch(r"([0-9]{1,12}) ?(KiB|MiB)", value) if isinstance(value, str) else None
        if match is not None:
            return int(match[1]) * (KIB if match[2] == "KiB" else MIB)
        return super()._deserialize(value, *args, **kwargs)


class Number(Kind[float]):
    said = "a number"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> float:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value, re.ASCII):
            return float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        raise ValidationError(WRONG)


class Switch(Kind[bool]):
    said = "true or false"
    words: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in self.words:
            return self.words[value.lower()]
        raise ValidationError(WRONG)


class Text(Kind[str]):
    said = "a text without spaces"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        if isinstance(value, str) and value.isprintable() and value and " " not in value:
            return value
        raise ValidationError(WRONG)


class Journal(Text):
    said = "memory:, sqlite:PATH or nats://HOST:4222/NAME"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError(WRONG)
        if re.fullmatch(r"memory:|sqlite:.+|(nats|tls)://[^@]+", value):
            return value
        if re.match(r"(nats|tls)://[^/]*@", value):
            raise ValidationError(
                "user and password would end up in logs (set nats_user and nats_password_file, or "
                "nats_creds)"
            )
        if ":" not in value:
            raise ValidationError(f"what kind of journal is not said (a file is sqlite:{value})")
        raise ValidationError(WRONG)


class Word(Text):
    """One of a few; case does not matter."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        return super()._deserialize(value, *args, **kwargs).lower()


class Place(Kind[Path]):
    said = "the path of a file"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Path:
        if isinstance(value, Path) or (isinstance(value, str) and value and "\0" not in value):
            return Path(value).expanduser()
        raise ValidationError(WRONG)


class PresentFile(Place):
    said = "the path of a file that exists"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Path:
        path = super()._deserialize(value, *args, **kwargs)
        if not path.is_file():
            raise ValidationError("there is no such file")
        return path


_ORIGIN = re.compile(
    r"(?:file://|[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?)", re.ASCII
)
"""Of any scheme: desktop programs send tauri://localhost, app://desk or file://."""


def canonical(origin: str) -> str:
    """An origin as a browser sends it: without the default port of its scheme."""
    default = {"http": ":80", "https": ":443"}.get(origin.partition(":")[0], "")
    return origin.removesuffix(default) if default else origin


class Origins(Kind[tuple[str, ...]]):
    said = "origins such as https://desk.example:8443 (in a variable: separated by commas)"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise ValidationError(WRONG)
        origins = [part.strip() if isinstance(part, str) else part for part in parts]
        for origin in origins:
            # RFC 6454 §6.2: scheme, host, port. A path or a star would never match one.
            if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
                raise ValidationError(f"{origin!r} is no origin")
        return tuple(map(canonical, origins))


class Prefix(Kind[str]):
    said = "empty, or a path such as /telemetry"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        if isinstance(value, str) and re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)*/?", value, re.ASCII):
            return value.rstrip("/")
        raise ValidationError(WRONG)


class WebAddress(Kind[str]):
    said = "an address such as https://hooks.example/alerts"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        # Without what stands before an @: it would be shown wherever the address is.
        if isinstance(value, str) and re.fullmatch(
            r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?][!-~]*)?",
            value,
            re.ASCII,
        ):
            return value
        raise ValidationError(WRONG)


class Hosts(Kind[tuple[str, ...]]):
    said = "addresses such as 127.0.0.1 or ::1 (in a variable: separated by commas)"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not parts:
            raise ValidationError(WRONG)
        hosts = []
        for part in parts:
            host = part.strip() if isinstance(part, str) else ""
            if host.startswith("[") and host.endswith("]"):
                host = host[1:-1]  # as it stands in addresses of pages
            if not re.fullmatch(r"[A-Za-z0-9._:%-]{1,253}", host, re.ASCII):
                raise ValidationError(WRONG)
            hosts.append(host)
        return tuple(dict.fromkeys(hosts))


KINDS: Mapping[str, type[Kind[Any]]] = {
    "whole": Whole,
    "size": Size,
    "number": Number,
    "switch": Switch,
    "text": Text,
    "journal": Journal,
    "word": Word,
    "place": Place,
    "present_file": PresentFile,
    "origins": Origins,
    "hosts": Hosts,
    "web_address": WebAddress,
    "prefix": Prefix,
}
