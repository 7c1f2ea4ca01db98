"""The wire types of payloads: each checks a JSON value and gives back the form that is sent.

Nothing here passes through a binary float that was not one on the wire: a decimal stays the text
it came as, so that its scale is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, fields, validate

from telecast.model import MAX_SEQ

MAX_TEXT = 4096
"""Characters in a message or a reason: more belongs into a log."""
MAX_ITEMS = 32
"""Of a list or a map in a payload: each costs some 20 µs, in which nobody else is served."""

_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_DURATION = re.compile(
    r"P(?=.)(?:\d{1,9}D)?(?:T(?=.)(?:\d{1,9}H)?(?:\d{1,9}M)?(?:\d{1,9}(?:\.\d{1,9})?S)?)?",
    re.ASCII,
)


class Scalar(fields.Field[Any]):
    """One JSON value, judged by itself: all of its rules are in `read`."""

    def read(self, value: Any) -> Any:
        """The value as it is sent. Raises ValidationError, also for what stands for no value."""
        raise NotImplementedError

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return self.read(value)

    def bound(self, judge: Callable[[Any], bool], message: str) -> None:
        """Take only values that `judge` also takes. A field without bounds pays nothing for it."""
        read = self.read

        def bounded(value: Any) -> Any:
            taken = read(value)
            if not judge(taken):
                raise ValidationError(message)
            return taken

        self.read = bounded  # type: ignore[method-assign]


class Text(Scalar, fields.String):
    """A JSON string of at most MAX_TEXT characters."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"maxLength": MAX_TEXT}, **kwargs)

    default_error_messages = {
        "invalid": "Must be a JSON string.",
        "too_long": f"Must have at most {MAX_TEXT} characters.",
        "null_character": "Must not contain NUL.",
    }

    def read(self, value: Any) -> str:
        if type(value) is not str:
            raise self.make_error("invalid")
        if len(value) > MAX_TEXT:
            raise self.make_error("too_long")
        if "\0" in value:
            raise self.make_error("null_character")
        return value


class Identifier(Scalar, fields.String):
    """A JSON string of 1 to 128 characters, none of them a control character or a line break."""

    MOST = 128

    def __init__(self, **kwargs: Any) -> None:
        about = {"minLength": 1, "maxLength": self.MOST, "pattern": f"^[^{_CONTROL.pattern[1:]}*$"}
        super().__init__(metadata=about, **kwargs)

    default_error_messages = {
        "invalid": "Must be a JSON string.",
        "length": f"Must have 1 to {MOST} characters.",
        "control": "Must not contain control characters.",
    }

    def read(self, value: Any) -> str:
        if type(value) is not str:
            raise self.make_error("invalid")
        if not 0 < len(value) <= self.MOST:
            raise self.make_error("length")
        if _CONTROL.search(value):
            raise self.make_error("control")
        return value


class PlainDecimal(Scalar, fields.String):
    """Money, price, quantity: a JSON string in plain decimal notation, kept as it is written."""

    def __init__(self, **kwargs: Any) -> None:
        about = {"format": "decimal", "pattern": f"^{_DECIMAL.pattern}$"}
        super().__init__(metadata=about, **kwargs)

    default_error_messages = {
        "number": 'Must be a decimal number in a JSON string, such as "0.5762": '
        "a JSON number would pass through binary floating point.",
        "invalid": 'Must be plain decimal notation, such as "-12.50": ASCII digits, no exponent, '
        "at most 30 before and 30 after the point.",
    }

    def read(self, value: Any) -> str:
        if type(value) is not str:
            raise self.make_error("number")
        if _DECIMAL.fullmatch(value) is None:
            raise self.make_error("invalid")
        return value


class Ratio(Scalar, fields.Float):
    """A finite JSON number."""

    default_error_messages = {"invalid": "Must be a finite JSON number."}

    def read(self, value: Any) -> float:
        if type(value) not in (int, float) or not abs(value) <= MAX_SEQ:  # of NaN neither holds
            raise self.make_error("invalid")
        number: float = value
        return number


class Count(Scalar, fields.Integer):
    """A whole JSON number from 0 to 2**53 - 1."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"minimum": 0, "maximum": MAX_SEQ}, **kwargs)

    default_error_messages = {"invalid": "Must be a whole JSON number from 0 to 2^53 - 1."}

    def read(self, value: Any) -> int:
        if type(value) is not int or not 0 <= value <= MAX_SEQ:
            raise self.make_error("invalid")
        return value


class Flag(Scalar, fields.Boolean):
    """JSON true or false."""

    default_error_messages = {"invalid": "Must be true or false."}

    def read(self, value: Any) -> bool:
        if type(value) is not bool:
            raise self.make_error("invalid")
        return value


class Instant(Scalar, fields.String):
    """A moment in RFC 3339 with its offset; sent in UTC with `Z`, its fraction kept."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"format": "date-time"}, **kwargs)

    default_error_messages = {
        "invalid": "Must be an RFC 3339 instant with Z or an offset, "
        'such as "2026-11-22T18:17:19.387Z".'
    }

    def read(self, value: Any) -> str:
        if type(value) is not str or _INSTANT.fullmatch(value) is None:
            raise self.make_error("invalid")
        text = value.upper()
        try:
            # datetime holds six digits; the fraction is carried over as text, whatever its length.
            if text.endswith("Z"):
                datetime.fromisoformat(text[:19])
                return text
            moment = datetime.fromisoformat(text[:19] + text[-6:]).astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.make_error("invalid") from None
        fraction = text[19:-6]
        return f"{moment.replace(tzinfo=None).isoformat()}{fraction}Z"


class Duration(Scalar, fields.String):
    """An ISO 8601 duration of days, hours, minutes and seconds, such as PT2H30M."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"format": "duration"}, **kwargs)

    default_error_messages = {
        "invalid": 'Must be an ISO 8601 duration of days to seconds, such as "PT2H30M".'
    }

    def read(self, value: Any) -> str:
        if type(value) is not str or _DURATION.fullmatch(value) is None:
            raise self.make_error("invalid")
        return value


class FewList(fields.List[Any]):
    """A JSON list of at most MAX_ITEMS items, counted before any is looked at."""

    default_error_messages = {"too_many": f"Must have at most {MAX_ITEMS} items."}

    def __init__(self, item: fields.Field[Any], **kwargs: Any) -> None:
        super().__init__(item, metadata={"maxItems": MAX_ITEMS}, **kwargs)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list) and len(value) > MAX_ITEMS:
            raise self.make_error("too_many")
        return super()._deserialize(value, *args, **kwargs)


class FewDict(fields.Dict):
    """A JSON object of at most MAX_ITEMS members, counted before any is looked at.

    Only the first bad member is reported.
    """

    default_error_messages = {"too_many": f"Must have at most {MAX_ITEMS} members."}

    def __init__(self, keys: Scalar, values: Scalar, **kwargs: Any) -> None:
        super().__init__(keys, values, metadata={"maxProperties": MAX_ITEMS}, **kwargs)
        self._key, self._value = keys, values

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        if len(value) > MAX_ITEMS:
            raise self.make_error("too_many")
        read: dict[Any, Any] = {}
        for name, each in value.items():
            try:
                read[self._key.deserialize(name)] = self._value.deserialize(each)
            except ValidationError:
                # In its words, and alone: a list of maps may hold a thousand, of 10 µs each.
                return super()._deserialize({name: each}, *args, **kwargs)  # type: ignore[no-untyped-call]
        return read


class Choice(Scalar, fields.String):
    """One of a closed list of upper-case words."""

    default_error_messages = {"invalid": "Must be one of: {choices}."}

    def __init__(self, *choices: str, **kwargs: Any) -> None:
        super().__init__(validate=validate.OneOf(choices), **kwargs)
        self._choices = frozenset(choices)
        self._listed = ", ".join(choices)

    def read(self, value: Any) -> str:
        if type(value) is not str or value not in self._choices:
            raise self.make_error("invalid", choices=self._listed)
        return value


def nullable(field_type: type[fields.Field[Any]], *args: Any, **kwargs: Any) -> fields.Field[Any]:
    """A field that a publisher may leave out or set to null, and that events always have."""
    return field_type(*args, allow_none=True, load_default=None, **kwargs)


def first_problems(messages: Any, path: str = "") -> Iterable[tuple[str, str]]:
    """Flatten marshmallow's error tree into (field path, message) pairs, in its order."""
    if isinstance(messages, dict):
        for name, below in messages.items():
            at = "" if name == "_schema" else str(name)
            yield from first_problems(below, f"{path}.{at}" if path and at else path or at)
    elif isinstance(messages, list):
        for below in messages:
            yield from first_problems(below, path)
    else:
        yield path, str(messages)
