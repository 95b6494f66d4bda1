"""What the shim says of itself: RuntimeInfo.

Runs in: containerd-shim-skerry-v2 -info.   Imports: jsonio, paths, spec.features; .messages, .options, .protobuf.
Source:  containerd api/types/introspection.proto; runtime-spec features.md.
Never:   claims what `skerry features` does not.
"""

from skerry import paths
from skerry.errors import Error
from skerry.jsonio import dumps
from skerry.shims.task import messages, options, protobuf
from skerry.spec.features import features

FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


def info(isolation: str, stdin: bytes) -> bytes:
    """Shape   `stdin` is an Any with options, or empty; they are given back."""
    message = {
        "name": options.RUNTIMES[isolation],
        "version": {"version": paths.version()},
        "features": {"type_url": FEATURES, "value": dumps(features())},
    }
    if stdin:
        try:
            message["options"] = protobuf.decode(messages.ANY, stdin)
        except Error:
            pass  # what they were does not change what we are
    return protobuf.encode(messages.RUNTIME_INFO, message)
