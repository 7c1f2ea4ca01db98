"""The keys file: who may connect, and with which rights.

A key reads `tc_<8 hex: its id>_<64 hex: 256 random bits>`. The file keeps the SHA-256 of the whole
text only. A slow password hash would add nothing against 256 bits, and 100 ms of CPU for whoever
knocks. The file is TOML, made to be read and edited by people:

    [[key]]
    id = "1f0c2a9b"
    name = "desk-1"
    sha256 = "..."
    scopes = ["read", "operate"]
    channels = ["positions", "risk-*"]      # globs; all where it is left out
    expires = 2027-01-01T00:00:00Z          # never where it is left out
    filter = { traderId = ["t1", "t2"] }    # forced on all that the holder sees and publishes

`store` holds them in memory, `file` understands and changes them, `content` reads and writes its
bytes, `secret` signs what a browser gets in place of a key (`tokens`), `guesses` slows down wrong
ones. It may import `protocol.limits` and the model; nothing of HTTP comes in.
"""

from telecast.keys.file import create_key, list_keys, revoke_key
from telecast.keys.store import KeyStore

__all__ = ["KeyStore", "create_key", "list_keys", "revoke_key"]
