"""Devices, processes, memory, files: what the computer has to do with it."""
