"""`telecast` whose nodes all make each checkpoint, at the same time: no claim keeps another off.

Run in place of the command: `python hurried.py serve`. All nodes of a log must do so, as they judge
claims alike.
"""

from __future__ import annotations


def main() -> None:
    from telecast import cli
    from telecast.journal.jetstream.checkpoints import marks

    marks.CLAIM_MS = 0
    cli.main()


if __name__ == "__main__":
    main()
