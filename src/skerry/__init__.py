"""skerry: an OCI container runtime. As a library: typed errors, no daemon, no subprocess.

Runs in: every process (hot).   Imports: nothing; a name is loaded when it is first asked for.
Source:  design.md "Faces".
Never:   imports what is not asked for: a verb of the command line pays for each module.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.container import Container as Container
    from skerry.container import Process as Process
    from skerry.container import open_store as open_store
    from skerry.errors import Error as Error
    from skerry.paths import VERSION as __version__

# public name -> (module that holds it, its name there)
_PUBLIC = {
    "Container": ("skerry.container", "Container"),
    "Process": ("skerry.container", "Process"),
    "open_store": ("skerry.container", "open_store"),
    "Error": ("skerry.errors", "Error"),
    "__version__": ("skerry.paths", "VERSION"),
}

__all__ = ["Container", "Error", "Process", "__version__", "open_store"]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'skerry' has no attribute {name!r}")
    module, inner = _PUBLIC[name]
    return getattr(__import__(module, fromlist=(inner,)), inner)


def __dir__() -> "list[str]":
    return sorted(__all__)
