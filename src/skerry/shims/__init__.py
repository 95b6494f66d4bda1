"""Processes that hold what outlives a command."""
