"""The wire contract: commands in, messages out, framing. No loop, no socket, no clock."""
