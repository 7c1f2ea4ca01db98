"""The writer's SQL: temporary triggers that act as stored procedures, and what it asks.

They are temporary, so they belong to the code and not to the file's format.
"""

from __future__ import annotations

from typing import Any

import orjson

from telecast.journal.base import Note
from telecast.journal.group import Group, Known
from telecast.journal.sqlite.readers import checksum, key_checksum, note_checksum

# Each write is one statement, run in autocommit: an INSERT into a view whose trigger does the
# work. A statement of its own for BEGIN, for each table and for COMMIT would give up and retake
# the interpreter lock some three times each, and beside a busy loop each costs a switch interval.
# A superseded row that was looked at by `trim` before is noted for the next one.
PROCEDURES = """
CREATE TEMP VIEW commits AS
    SELECT 0 AS first, 0 AS timestamp, '' AS entries, x'' AS payload, '' AS moved, '' AS keys,
           '' AS notes, 0 AS since;
CREATE TEMP TRIGGER commit_group INSTEAD OF INSERT ON commits BEGIN
    INSERT INTO events
        SELECT new.first + key, new.timestamp,
               value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
               substr(new.payload, value ->> 5, value ->> 6)
          FROM json_each(new.entries);
    DELETE FROM rows WHERE (channel, key) IN (
        SELECT value ->> 0, value ->> 1 FROM json_each(new.moved) WHERE value ->> 2 = 0);
    INSERT INTO rows
        SELECT value ->> 0, value ->> 1, value ->> 2
          FROM json_each(new.moved) WHERE value ->> 2 > 0
        ON CONFLICT (channel, key) DO UPDATE SET seq = excluded.seq;
    INSERT INTO idempotency
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
               value ->> 6, new.since
          FROM json_each(new.keys);
    DELETE FROM notes WHERE (book, key) IN (
        SELECT value ->> 0, value ->> 1 FROM json_each(new.notes) WHERE value ->> 4 IS NULL);
    INSERT INTO notes
        SELECT value ->> 0, value ->> 1, value ->> 2,
               substr(new.payload, value ->> 3, value ->> 4)
          FROM json_each(new.notes) WHERE value ->> 4 IS NOT NULL
        ON CONFLICT (book, key) DO UPDATE SET crc = excluded.crc, value = excluded.value;
END;
CREATE TEMP TRIGGER row_replaced AFTER UPDATE ON main.rows
    WHEN old.seq <= (SELECT through FROM main.floors WHERE channel = old.channel)
    BEGIN INSERT INTO superseded VALUES (old.seq); END;
CREATE TEMP TRIGGER row_deleted AFTER DELETE ON main.rows
    WHEN old.seq <= (SELECT through FROM main.floors WHERE channel = old.channel)
    BEGIN INSERT INTO superseded VALUES (old.seq); END;

CREATE TEMP VIEW trims AS SELECT '' AS gone, '' AS moved, 0 AS forget, 0 AS most;
CREATE TEMP TRIGGER trim_entries INSTEAD OF INSERT ON trims BEGIN
    DELETE FROM events WHERE seq IN (SELECT value FROM json_each(new.gone));
    DELETE FROM superseded WHERE seq IN (SELECT value FROM json_each(new.gone));
    INSERT INTO floors
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(new.moved)
         WHERE true
        ON CONFLICT (channel) DO UPDATE SET through = excluded.through,
            whole_from = excluded.whole_from, compact_from = excluded.compact_from;
    DELETE FROM idempotency WHERE key IN (
        SELECT key FROM idempotency WHERE since < new.forget ORDER BY since LIMIT new.most);
END;
"""
COMMIT = "INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
TRIM = "INSERT INTO trims VALUES (?, ?, ?, ?)"
PROBE = "UPDATE meta SET value = value"

LOOK_UP = """
SELECT (SELECT json_group_array(json_array(r.channel, r.key, r.seq))
          FROM json_each(?) AS w CROSS JOIN rows AS r
         WHERE r.channel = w.value ->> 0 AND r.key = w.value ->> 1),
       (SELECT json_group_array(json_array(i.key, i.digest, count, first_seq, last_seq, at, crc,
                                           since))
          FROM json_each(?) AS w CROSS JOIN idempotency AS i WHERE i.key = w.value)
"""
# As Idempotency.owner.
OWNER = "substr(key, 1, instr(key || ':', ':') - 1)"
LEFT_OVER = f"""
SELECT (SELECT json_group_array(json_array(seq, channel, pinned))
          FROM (SELECT * FROM superseded ORDER BY seq LIMIT ?) JOIN events USING (seq)),
       (SELECT json_group_object(owner, keys)
          FROM (SELECT {OWNER} AS owner, count(*) AS keys
                  FROM (SELECT key FROM idempotency WHERE since < ? ORDER BY since LIMIT ?)
                 GROUP BY 1))
"""
CANDIDATES = """
SELECT json_group_array(json_array(seq, timestamp, live, lasting, size))
  FROM (SELECT seq, timestamp, length(data) AS size, pinned OR op = 'delete' AS lasting,
               EXISTS (SELECT 1 FROM rows AS r
                        WHERE r.channel = e.channel AND r.key = e.key AND r.seq = e.seq) AS live
          FROM events AS e WHERE channel = ? AND seq > ? ORDER BY seq LIMIT ?)
"""


def commit_parameters(group: Group) -> tuple[Any, ...]:
    """What COMMIT takes: payloads and values in one blob, all else as JSON that points into it."""
    described = []
    start = 1
    for entry in group.entries:
        size = len(entry.data)
        crc = checksum(entry)
        described.append((entry.channel, entry.key, entry.op, entry.pinned, crc, start, size))
        start += size
    keys = [(*used, key_checksum(*used)) for used in map(_described, group.keys.items())]
    noted = []
    values = [entry.data for entry in group.entries]
    for (book, key), value in group.notes.items():
        crc = note_checksum(Note(book, key, value))
        noted.append((book, key, crc, start, None if value is None else len(value)))
        start += len(value or b"")
        values.append(value or b"")
    return (
        group.entries[0].seq if group.entries else 0,
        group.timestamp,
        _json(described),
        b"".join(values),
        _json([(*row, seq) for row, seq in group.moved.items()]),
        _json(keys),
        _json(noted),
        group.since,
    )


def _described(used: tuple[str, Known]) -> tuple[str, str, int, int, int, int]:
    key, known = used
    receipt = known.receipt
    numbers = receipt.count, receipt.first_seq, receipt.last_seq, receipt.timestamp
    return key, known.digest.hex(), *numbers


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
