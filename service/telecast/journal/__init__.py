"""Where events are kept: one contract (`base`), several implementations."""
