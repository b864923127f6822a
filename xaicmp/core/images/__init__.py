"""Images: their sources, and which of them are selected."""
