"""`telecast` whose nodes all make each checkpoint, at the same time: no claim keeps another off.
How large a copy is does not matter: one is due after so many bytes of messages.

Run in place of the command: `python hurried.py serve`. All nodes of a log must do so, as they judge
claims alike.
"""

from __future__ import annotations


def main() -> None:
    from telecast import cli
    from telecast.journal.jetstream.checkpoints import marks
    from telecast.journal.jetstream.checkpoints.keeper import Keeper

    seen = Keeper.seen

    def seen_small(keeper: Keeper, known: marks.Marks, size: int) -> None:
        seen(keeper, known, 0)

    marks.CLAIM_MS = 0
    Keeper.seen = seen_small  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
