"""A number that is another one at each run in CI, where everything else is the same every time.

Found a fault with it? `TELECAST_FRESH=NUMBER` plays the same again.
"""

from __future__ import annotations

import os
import secrets

FRESH: int | None = (
    int(os.environ["TELECAST_FRESH"])
    if os.environ.get("TELECAST_FRESH")
    else secrets.randbelow(10**9)
    if os.environ.get("CI")
    else None
)
"""None at a desk, where nobody has asked for one: hypothesis draws anew there by itself."""

LINE = None if FRESH is None else f"fresh seed: TELECAST_FRESH={FRESH} plays the same again"
