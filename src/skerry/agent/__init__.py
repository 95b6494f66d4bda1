"""Pid 1 of a utility VM: another face over the core."""
