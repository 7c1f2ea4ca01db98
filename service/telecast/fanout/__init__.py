"""Who hears it: the tape, selections, subscribers, cohorts and the broadcaster."""
