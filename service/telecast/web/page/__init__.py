"""Our own page: its files in `static`, and the handler that serves them.

No build step: what is in `static` is what the browser gets.
"""
