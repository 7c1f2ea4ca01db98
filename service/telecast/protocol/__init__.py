"""How it is told: commands in, messages out, framing. No loop, no socket, no clock."""
