"""Containers in utility VMs: what the host does for them."""
