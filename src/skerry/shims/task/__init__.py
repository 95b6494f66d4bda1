"""containerd-shim-skerry-v2: containerd's runtime v2 protocol over the core, one process for each pod."""
