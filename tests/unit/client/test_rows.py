"""The types of rows that the client hands out are those of the schemas."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from marshmallow import fields

from telecast.channels import schemas
from telecast.channels.fields import Choice, Count, Flag, PlainDecimal, Ratio
from telecast.client import MarketDataRow, PositionRow, RiskAlertRow, TraderStatusRow

PAIRS = [
    (TraderStatusRow, schemas.TraderStatus),
    (PositionRow, schemas.Position),
    (RiskAlertRow, schemas.RiskAlert),
    (MarketDataRow, schemas.MarketData),
]


def told(field: fields.Field[Any]) -> type:
    for kind, made in ((Flag, bool), (Count, int), (Ratio, float), (fields.Nested, dict)):
        if isinstance(field, kind):
            return made
    return list if isinstance(field, fields.List) else str


@pytest.mark.parametrize(("row", "schema"), PAIRS, ids=lambda each: each.__name__)
def test_a_row_has_just_the_fields_of_its_schema(row, schema):
    hints, declared = get_type_hints(row), schema().fields
    assert hints.keys() == declared.keys()
    for name, field in declared.items():
        options = (
            get_args(hints[name])
            if isinstance(hints[name], types.UnionType) or get_origin(hints[name]) is Union
            else (hints[name],)
        )
        assert (type(None) in options) == bool(field.allow_none), name
        (kind,) = (each for each in options if each is not type(None))
        if get_origin(kind) is Literal:
            assert isinstance(field, Choice), name
            continue
        assert (get_origin(kind) or kind) is told(field), name
        assert not isinstance(field, PlainDecimal) or kind is str, name
