"""skerry: an OCI container runtime. As a library: typed errors, no daemon, no subprocess.

Runs in: every process (hot).   Imports: nothing; a name is loaded when it is first asked for.
Source:  design.md "Faces".
Never:   imports what is not asked for: a verb of the command line pays for each module.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.addition import Process as Process
    from skerry.container import Container as Container
    from skerry.container import open_store as open_store
    from skerry.errors import Error as Error
    from skerry.paths import VERSION as __version__

__all__ = ["Container", "Error", "Process", "__version__", "open_store"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from skerry.paths import VERSION

        return VERSION
    if name == "Error":
        from skerry.errors import Error

        return Error
    if name == "Process":
        from skerry.addition import Process

        return Process
    if name in __all__:
        from skerry import container

        return getattr(container, name)
    raise AttributeError(f"module 'skerry' has no attribute {name!r}")


def __dir__() -> "list[str]":
    return sorted(__all__)
