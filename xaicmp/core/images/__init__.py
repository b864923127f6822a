"""Where images come from, and which of them are meant."""
