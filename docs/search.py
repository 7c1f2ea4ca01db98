"""The search of the built pages finds every error code: run by `tox -e docs`, after the build.

python docs/search.py docs/_build/html
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import snowballstemmer

from telecast.errors import CODES


def unfound(html: Path) -> list[str]:
    """The codes that the index lacks. Its words are in small letters and without their endings."""
    text = (html / "searchindex.js").read_text("utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    words = index["terms"].keys() | index["titleterms"].keys()
    stem = snowballstemmer.stemmer("english").stemWord
    return [code for code in map(str, CODES) if not {code.lower(), stem(code.lower())} & words]


if __name__ == "__main__":
    missing = unfound(Path(sys.argv[1]))
    if missing:
        sys.exit(f"The search does not find: {', '.join(missing)}")
