"""What `telecast channels new` prints: a table that is right as it stands."""

from __future__ import annotations

TEMPLATE = """\
# A channel of {file}. Start the service with --channels {file}, or check it first:
#   telecast channels check {file}

[{name}]
title = "{title}"
description = "One row per instrument: replace this by what a row is."
mode = "keyed"                  # one row per key, updated in place; or "log": events that stay
key = ["exchange", "symbol"]    # what tells rows apart; null is not possible in these
filters = ["exchange", "symbol"]  # what subscribers can choose by: ids and choices
# pin = ["status"]              # a change of these is never conflated away
# ends = {{ status = ["CLOSED"] }}  # an event with this value is the row's last one
retention = {{ events = 100_000, age = "7d" }}  # the newest row of each key stays beyond both
# stale_after = "60s"           # without an event for so long the channel counts as stale
# conflation = false            # every event for everyone, however slow they are

# Types: id, text, decimal, ratio, count, instant, duration, flag, choice, object, list.
# Every field also takes: nullable = true, description = "...", example = ...

[{name}.fields.exchange]
type = "id"                     # 1 to 128 characters
example = "BINANCE"

[{name}.fields.symbol]
type = "id"
example = "BTCUSDT"

[{name}.fields.value]
type = "decimal"                # an exact number, in a string: "0.0001"
description = "Replace this by your number."
example = "0.0001"

[{name}.fields.note]
type = "text"                   # up to 4,096 characters
nullable = true                 # may be left out or null; all others are required
example = "settled"

[{name}.fields.updatedAt]
type = "instant"                # RFC 3339 with Z or an offset
example = "2026-11-22T18:17:19.387Z"
"""


def template(name: str, file: str = "channels.toml") -> str:
    """A channel's table with comments, for a name that a channel may have."""
    title = name.replace("-", " ").capitalize()
    return TEMPLATE.format(name=name, title=title, file=file)
