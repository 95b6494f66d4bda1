"""Cgroups of both versions, by writing to their file systems; `tree` is the way in."""
