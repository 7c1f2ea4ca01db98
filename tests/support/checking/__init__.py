"""What happened, recorded, and whether it can be."""
