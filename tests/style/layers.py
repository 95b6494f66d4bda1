"""THE table of layers. ARCHITECTURE.md prints it; test_layers.py holds the sources to it.

A module may import from its own folder and from lower layers, never upwards. Modules of one layer
that are listed apart from each other do not know each other.
"""

# layer -> (part of the package, what it is), from the ground up
LAYERS = (
    (
        ("errors", "the tree of errors"),
        ("log", "one line for each event"),
        ("paths", "the only place that builds paths"),
        ("jsonio", "strict JSON without the json module"),
        ("timeouts", "limits and their overrides"),
        ("optional", "the only door to other libraries"),
    ),
    (("linux", "the kernel's interface: numbers, packers, calls; no word of OCI"),),
    (
        ("spec", "reads, checks and completes config.json"),
        ("state", "the key store, and the status derived from facts"),
        ("rpc", "how our processes talk"),
        ("hooks", "hooks that run on the host"),
        ("disk", "scratch disks"),
    ),
    (
        ("plan", "spec to plan; pure"),
        ("engine", "what an engine is, and the registry of engines"),
    ),
    (("native", "containers by namespaces and cgroups"),),
    (("vm", "the host's half of containers in utility VMs"),),
    (
        ("container", "a container and its verbs"),
        ("creation", "from a bundle to a container that waits, or back to nothing"),
        ("readiness", "that a program is ready, for the service manager"),
        ("addition", "another process in a container"),
        ("deletion", "release, and forget"),
        ("pod", "containers that share"),
        ("events", "what happens to a container, as it happens"),
        ("doctor", "what the host can do"),
    ),
    (
        ("cli", "the command line, a file for each verb"),
        ("shims", "processes that hold what outlives a command"),
        ("agent", "pid 1 of a utility VM"),
    ),
)

# The package itself is the Python face; launch (with archive) and __main__ are how the CLI is entered.
ENTRANCES = ("__init__", "__main__", "launch", "archive")

# importer -> imported, with the reason why this one import goes against the table
ALLOWED = {}


def layer_of(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in (name for name, _ in parts):
            return number
    raise KeyError(f"{part} is in no layer: tests/style/layers.py")
