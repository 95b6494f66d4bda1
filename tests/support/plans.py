"""Plans for the pure tests: requests filled by hand, and a way to read what a recipe emitted.

Nothing here looks at the host, and nothing of plan/show.py is used: a mistake there shall not hide one in a recipe.
"""

import copy
from collections.abc import Iterator

from skerry.plan import create, ops
from skerry.plan.build import Data, Op, Plan, Reg
from skerry.plan.request import Request

NEW = ("pid", "network", "ipc", "uts", "mount")
CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
SMALL = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "process": {
        "args": ["/bin/true"],
        "env": ["PATH=/bin", "HOME=/root"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "capabilities": {kind: CAPS for kind in ("bounding", "effective", "permitted")},
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
    ],
    "linux": {"namespaces": [{"type": kind} for kind in NEW]},
}


def small_spec() -> dict:
    """A spec with little more than what must be there; each call gives its own."""
    return copy.deepcopy(SMALL)


def join(spec: dict, kind: str, path: str) -> None:
    """Join a namespace by path instead of making it."""
    namespaces = spec["linux"]["namespaces"]
    namespaces[:] = [entry for entry in namespaces if entry["type"] != kind]
    namespaces.append({"type": kind, "path": path})


def map_users(spec: dict) -> None:
    """A new user namespace."""
    spec["linux"]["namespaces"].append({"type": "user"})
    for key in ("uidMappings", "gidMappings"):
        spec["linux"][key] = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def request(spec: dict | None = None, **facts: object) -> Request:
    """What native/facts.py would find on a host with cgroup v1 and nothing special."""
    spec = small_spec() if spec is None else spec
    r = Request("x86_64", "box", spec, spec.get("process"))
    r.bundle, r.rootfs_path = "/bundle", "/bundle/rootfs"
    r.cgroup_version = 1
    r.limits = {**dict.fromkeys(range(16), (-1, -1)), 7: (1024, 1048576)}
    for name, value in facts.items():
        if not hasattr(r, name):
            raise AttributeError(name)
        setattr(r, name, value)
    return r


def exec_request(process: dict | None = None, spec: dict | None = None, **facts: object) -> Request:
    """An exec into a container that has all its namespaces but user and time for itself."""
    spec = small_spec() if spec is None else spec
    r = request(spec, join=0x6C020000, **facts)  # NEWNET NEWPID NEWIPC NEWUTS NEWNS
    if r.join_user:
        r.join |= 0x10000000
    r.process = copy.deepcopy(process or spec["process"])
    r.pointer = ""
    return r


def replace(plan: Plan, index: int, call: str) -> None:
    """Put a system call without arguments in the place of an operation of a finished plan."""
    rows = plan.rows
    rows[index] = (call, (), None, ops.FATAL, (), None, *rows[index][6:])
    plan.rows, plan.code, plan._jumps = [], bytearray(), []
    for row in rows:
        plan.process, plan._label = row[6:]
        plan._add(*row[:6])


class Seen:
    """An operation with its strings and structures at hand.

    args   numbers; `"text"` for strings; bytes for other data; the Reg for registers
    """

    def __init__(self, plan: Plan, index: int, op: Op) -> None:
        self.index, self.op = index, op
        self.name = op.call or op.name
        self.step, self.pointer, self.hints = op.label.text, op.label.pointer, op.label.hints
        self.process = plan.process_name(op.process)
        self.dst, self.fail, self.errnos = op.dst, op.fail, op.errnos
        self.target = op.target.index if op.target is not None else None
        self.args = [_value(plan, value) for value in op.args]

    def words(self, position: int) -> list[int]:
        raw = self.args[position]
        return [int.from_bytes(raw[n : n + 8], "little") for n in range(0, len(raw), 8)]

    def __repr__(self) -> str:
        return f"{self.index} {self.name}({', '.join(map(repr, self.args))}) [{self.step}]"


def _value(plan: Plan, value: object) -> object:
    if not isinstance(value, Data):
        return value
    raw = bytes(plan.data[value.offset : value.offset + value.size])
    if raw[-1:] == b"\0" and raw[:-1].decode("latin-1").isprintable():
        return raw[:-1].decode()
    return raw


class Listing:
    """What a recipe emitted."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.all = [Seen(plan, index, op) for index, op in enumerate(plan.ops)]

    def __iter__(self) -> Iterator[Seen]:
        return iter(self.all)

    def find(self, name: str = "", *args: object, step: str = "", process: str = "") -> list[Seen]:
        """All of this name whose arguments begin like this (`...` is any), in steps that hold these words."""
        return [
            op
            for op in self.all
            if (not name or op.name == name)
            and all(want is ... or _same(want, got) for want, got in zip(args, op.args, strict=False))
            and len(op.args) >= len(args)
            and step in op.step
            and process in op.process
        ]

    def one(self, name: str = "", *args: object, step: str = "", process: str = "") -> Seen:
        found = self.find(name, *args, step=step, process=process)
        assert len(found) == 1, f"{name}{args} {step}: {found}"
        return found[0]

    def steps(self) -> list[str]:
        """The steps in their order, each once where it is repeated in a row."""
        found: list[str] = []
        for op in self.all:
            if not found or found[-1] != op.step:
                found.append(op.step)
        return found

    def writes_through(self, op: Seen, name: str) -> list[Seen]:
        """What is done with the register of an operation, until it is written again."""
        found = []
        for other in self.all[op.index + 1 :]:
            if any(isinstance(a, Reg) and a.number == op.dst.number for a in other.args) and other.name == name:
                found.append(other)
            if other.dst is not None and other.dst.number == op.dst.number:
                break
        return found


def _same(want: object, got: object) -> bool:
    if isinstance(want, Reg) and isinstance(got, Reg):
        return want.number == got.number
    return type(want) is type(got) and want == got


def made(spec: dict | None = None, **facts: object) -> Listing:
    """The listing of a create."""
    return Listing(create.build(request(spec, **facts)))


def in_order(*ops_: Seen) -> None:
    """Each comes after the one before it, in the process that runs it or a later one."""
    for before, after in zip(ops_, ops_[1:], strict=False):
        assert before.index < after.index, f"{before} must come before {after}"


def open_how(op: Seen) -> tuple[int, int, int]:
    """(flags, mode, resolve) of an openat2."""
    flags, mode, resolve = op.words(2)
    return flags, mode, resolve


RECORD = ops.RECORDS
