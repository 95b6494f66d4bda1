"""Processes that hold what outlives a command: one for each utility VM, one for each container in it."""
