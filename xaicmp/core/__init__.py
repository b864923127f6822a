"""The science. Knows nothing of the command line, tables or figures."""
