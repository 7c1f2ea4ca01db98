"""Reads channels.toml: what it says is judged in `telecast.channels.configured`."""

from __future__ import annotations

from pathlib import Path

from telecast.channels.catalogue import CHANNELS, Catalogue
from telecast.channels.configured import catalogue_from
from telecast.errors import SettingsError

MOST_BYTES = 4 * 2**20


def read_catalogue(path: Path | None) -> Catalogue:
    """The channels of a service with this file; None: the built-in ones.

    Raises SettingsError with a sentence for each problem, each with its line.
    """
    if path is None:
        return CHANNELS
    text = _text(path, f"`telecast channels new NAME > {path}` makes one.", "channels: ")
    return catalogue_from(text, str(path), lambda name: _text(path.parent / name))


def _text(path: Path, advice: str = "", before: str = "") -> str:
    """Raises SettingsError."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SettingsError([f"{before}{path} has more than {MOST_BYTES:,} bytes."])
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise SettingsError([f"{before}there is no file {path}. {advice}".rstrip()]) from None
    except UnicodeDecodeError as fault:
        raise SettingsError([f"{before}{path} is no UTF-8: {fault.reason}."]) from None
    except OSError as fault:
        raise SettingsError([f"{before}{path} can't be read: {fault.strerror}."]) from None
