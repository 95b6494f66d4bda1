"""Processes that hold what outlives a command: one for each utility VM, container in one, and pod of containerd."""
