"""Make a container's process exist, up to the gate.

Runs in: create, run (hot).   Imports: posix; native, plan, state.journal, hooks.
Source:  docs/lifecycle.md C, D, E; docs/decisions/0001.
Never:   leaves something behind that is not in the journal.
"""

import posix

from skerry import paths, timeouts
from skerry.engine import Options
from skerry.errors import Error
from skerry.hooks import run_host_hooks
from skerry.linux import caps
from skerry.native import facts, gate
from skerry.native.cgroup.group import RESOURCES, Cgroup
from skerry.native.cgroup.tree import Layout, open_cgroup, read_layout
from skerry.native.dialogue import Dialogue
from skerry.native.launch import Launched, launch
from skerry.plan import create as recipe
from skerry.plan import namespaces
from skerry.plan.build import Plan
from skerry.plan.hooks import pid_digits, template
from skerry.plan.request import Request
from skerry.state.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.log import Log
    from skerry.native.cgroup.group import Prepared
    from skerry.state.store import Store


class Creation:
    """One create: `build` the plan, `run` it to the gate, then `finish` or `undo`."""

    def __init__(
        self,
        store: "Store",
        id: str,
        spec: "dict[str, Any]",
        record: "dict[str, Any]",
        options: Options,
        log: "Log",
    ) -> None:
        self._store = store
        self._id = id
        self._spec = spec
        self._record = record
        self._options = options
        self._log = log
        self._layout: Layout = read_layout()
        linux = spec.get("linux") or {}
        self.cgroup: Cgroup = open_cgroup(self._layout, linux.get("cgroupsPath") or "", id)
        self._resources = linux.get("resources") or {}
        self.request = self._gather()
        self.plan: Plan = recipe.build(self.request)
        self.facts = {"ops": len(self.plan.rows)}  # a failed start finds its step by it
        self.dialogue: Dialogue | None = None
        self._prepared: Prepared | None = None
        self.journal = Journal(store, id, [])

    def _gather(self) -> Request:
        options, record, spec = self._options, self._record, self._spec
        r = Request(facts.machine(), self._id, spec, spec.get("process"))
        r.bundle = record["Bundle"]
        r.rootfs_path = record["Rootfs"]
        r.layers = options.layers
        if r.layers:
            from skerry.native import layers

            self._see(None, layers.check, r.layers)
        else:
            self._see(None, facts.check_rootfs, r.rootfs_path)
        r.preserve = options.preserve
        facts.check_preserved(options.preserve)
        r.extra_env = options.extra_env
        r.console = options.console
        r.stdio_owner = () if options.console else facts.stdio_owner(options.stdio)
        for index, path in facts.bind_paths(spec, r.bundle).items():
            is_directory = self._see(True, facts.is_directory, path, f"/mounts/{index}/source")
            r.sources[index] = (path, is_directory)
        self._see(None, facts.check_namespaces, r)
        facts.cgroup_mounts(r, self._layout, self.cgroup)
        self._see(None, self.cgroup.refuse_busy)
        self._see(None, self.cgroup.check, self._resources)
        r.device_program = self.cgroup.device_program(self._resources) or b""
        if r.process and r.linux.get("seccomp"):
            r.seccomp = self._filter(r.linux["seccomp"])
        r.last_cap = caps.last_cap()
        self._see(None, facts.check_capabilities, r)
        r.limits = facts.limits(r.process)
        r.no_pivot = options.no_pivot
        r.full_mounts = facts.full_mounts(r.rootfs_path) if r.no_pivot else []
        r.new_keyring = options.new_keyring
        r.kcore = facts.kcore()
        for name, status in (("createContainer", "creating"), ("startContainer", "created")):
            # Without a process nothing comes after the startContainer hooks, so they do not run.
            if (spec.get("hooks") or {}).get(name) and (r.process or name != "startContainer"):
                r.hook_states[name] = template(self.state(status, 0))
        return r

    def _see(self, default: "Any", look: "Callable[..., Any]", *what: object) -> "Any":
        """Look at the host. What is wrong or out of sight is an error here; a preview takes the default."""
        return look(*what)

    def _filter(self, seccomp: "dict[str, Any]") -> object:
        from skerry.native import seccomp as compiler

        program = compiler.program(seccomp, f"{self._store.root}/{paths.SECCOMP_CACHE}")
        for name in program.ignored:
            self._log.debug(f"seccomp: this libseccomp does not know the system call {name}")
        return program

    def state(self, status: str, pid: int) -> "dict[str, Any]":
        """The state that hooks read (runtime.md "State")."""
        state = {
            "ociVersion": self._spec["ociVersion"],
            "id": self._id,
            "status": status,
            "pid": pid,
            "bundle": self._record["Bundle"],
        }
        if self._spec.get("annotations"):
            state["annotations"] = self._spec["annotations"]
        return state

    def run(self) -> Dialogue:
        """Make everything, up to READY. Whatever fails, the journal says what to release."""
        journal = self.journal
        item: dict[str, Any] = {"kind": "cgroup", "cgroup": self.cgroup.record}
        born_inside = self.cgroup.kind == "v2"
        if born_inside:
            journal.add(item)
            self._make_cgroup(journal, item)
        launched = self._launch()
        late = not born_inside and not self._attach_first()
        self.dialogue = dialogue = Dialogue(
            launched,
            self.request,
            journal,
            on_process=self._attach if late else None,
            hooks=self._hooks_due,
            explain_end=self._explain_end,
        )
        try:
            if born_inside:
                journal.add(launched.item)
            else:
                # The first process waits for our word, so it may as well take its trees meanwhile.
                journal.add(item, launched.item)
                self._make_cgroup(journal, item)
                if not late:
                    self.cgroup.attach(launched.pid)
            dialogue.run()
        except BaseException:
            dialogue.abort()
            raise
        return dialogue

    def _make_cgroup(self, journal: Journal, item: "dict[str, Any]") -> None:
        """What turns out to be another's must not be on record: release would kill what is in it.

        That it is entered stands in the next write of the journal, before a process can be in it that needs killing.
        """
        try:
            self.cgroup.create()
            item["entered"] = True
        except Error:
            self.cgroup.abandon()
            journal.items.remove(item)
            journal.save()
            raise

    def _launch(self) -> Launched:
        """Start skerry-init on the plan, with the gate and (v2) the cgroup's directory."""
        r = self.request
        fds = dict(enumerate(self._options.stdio))
        fds.update({fd: fd for fd in range(3, 3 + r.preserve)})
        directory = self._store.directory(self._id)
        cgroup_fd = self.cgroup.join_fd()
        try:
            if r.layers:
                from skerry.native import layers

                layers.prepare(r.layers)
                posix.mkdir(paths.ROOTFS, 0o700, dir_fd=directory)  # the overlay's mount point
            socket = gate.make(directory)
            fds[r.gate_fd] = socket.fileno()
            if cgroup_fd >= 0:
                fds[r.cgroup_fd] = cgroup_fd
            limit = timeouts.seconds("CREATE", warn=self._log.warning)
            try:
                return launch(self.plan, r, fds, what=f"create container {self._id}", limit_s=limit)
            finally:
                socket.close()
        finally:
            posix.close(directory)
            if cgroup_fd >= 0:
                posix.close(cgroup_fd)

    def _attach_first(self) -> bool:
        """v1: whether the first process must be in the cgroup before it forks.

        The first attach after a quiet moment waits ten milliseconds for the kernel, so otherwise the process that
        becomes the program is attached while it mounts. Not if it forks again, or if its cgroup namespace must begin
        at the cgroup.
        """
        r = self.request
        return namespaces.needs_join_stage(r) or r.namespace("cgroup") is not None

    def _attach(self, pid: int) -> None:
        """Of the process that becomes the program, while it mounts."""
        self.cgroup.attach(pid)
        self._prepared = self.cgroup.prepare(self._resources)

    def _hooks_due(self, dialogue: Dialogue) -> bytes:
        """Mounts and devices are there, nothing of the image has run: set limits, run the host's hooks."""
        self.cgroup.apply(self._resources, RESOURCES, self._prepared)
        hooks = self._spec.get("hooks") or {}
        state = self.state("creating", dialogue.pid)
        for name in ("prestart", "createRuntime"):
            run_host_hooks(name, hooks.get(name) or [], state)
        return self._digits("createContainer", dialogue.pid)

    def _explain_end(self) -> str:
        """Why skerry-init may have died without a word."""
        if not self.cgroup.oom_kills():
            return ""
        limit = (self._resources.get("memory") or {}).get("limit")
        return f"out of memory: /linux/resources/memory/limit is {limit} bytes"

    def _digits(self, hook: str, pid: int) -> bytes:
        """For a hook that runs inside: the pid as the container sees it."""
        return pid_digits(inner_pid(pid)) if hook in self.request.hook_states else b""

    def finish(self) -> None:
        """Everything is on record: let init go to the gate."""
        if self.dialogue is not None:
            self.dialogue.finish(self._digits("startContainer", self.dialogue.pid))
            self.dialogue.close()


def inner_pid(pid: int) -> int:
    """The pid in the innermost pid namespace (proc_pid_status(5), NSpid)."""
    from skerry.linux.fd import read_all

    fd = posix.open(f"/proc/{pid}/status", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        for line in read_all(fd).split(b"\n"):
            if line.startswith(b"NSpid:"):
                return int(line.split()[-1])
    finally:
        posix.close(fd)
    return pid
