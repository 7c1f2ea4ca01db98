"""How the pages are built: tox run -e docs, or sphinx-build -W docs docs/_build/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tables

from telecast import __version__

project = "Telecast"
author = "The Telecast authors"
project_copyright = "The Telecast authors"
release = __version__
version = __version__

extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True
# The pages show what a terminal and a wire show: their quotes and dashes stay as they are.
smartquotes = False
# `console` blocks hold JSON of any length, and info strings say how a block is tested.
highlight_language = "text"
# Pygments stumbles over the JSON in nginx's answer while the service is away.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"Telecast {release}"
html_copy_source = False
html_show_sourcelink = False

# Only what stands behind a prompt is copied.
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"


def setup(app):
    app.connect("source-read", fill_in)


def fill_in(app, docname, source):
    source[0] = tables.filled(source[0])
