"""Processes that hold what outlives a command: a pod for containerd, a utility VM, a container in one."""
