"""Make an additional process in a container.

Runs in: exec (hot).   Imports: posix; native, plan.join.
Source:  docs/lifecycle.md H; docs/decisions/0001.
Never:   writes keys; the core records the process between `run` and `finish`.
"""

import posix

from skerry import paths, timeouts
from skerry.engine import Options
from skerry.errors import SpecError, errno_text
from skerry.linux import caps
from skerry.native import facts
from skerry.native.cgroup.group import Cgroup
from skerry.native.dialogue import Dialogue
from skerry.native.launch import launch
from skerry.plan import join as recipe
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log
    from skerry.state.store import Store


class Execution:
    """One exec: `run` to READY, then `finish` once it is on record."""

    def __init__(
        self,
        store: "Store",
        id: str,
        spec: "dict[str, Any]",
        process: "dict[str, Any]",
        options: Options,
        log: "Log",
        *,
        bundle: str,
        init_pid: int,
        init_pidfd: int,
        cgroup: Cgroup,
    ) -> None:
        self._id = id
        self._options = options
        self._log = log
        self._init_pidfd = init_pidfd
        self._cgroup = cgroup
        r = Request(facts.machine(), id, spec, process)
        r.bundle = bundle
        r.pointer = ""
        r.preserve = options.preserve
        facts.check_preserved(options.preserve)
        r.extra_env = options.extra_env
        r.console = options.console
        r.stdio_owner = () if options.console else facts.stdio_owner(options.stdio)
        if r.linux.get("seccomp"):
            from skerry.native import seccomp

            r.seccomp = seccomp.program(r.linux["seccomp"], f"{store.root}/{paths.SECCOMP_CACHE}")
        r.last_cap = caps.last_cap()
        facts.check_capabilities(r)
        r.limits = facts.limits(process)
        r.cgroup_version = 2 if cgroup.kind == "v2" else 1
        r.join, r.join_user = facts.own_namespaces_mask(init_pid, init_pidfd)
        self.request = r
        self.plan = recipe.build(r)
        self.facts = {"tty": options.console}
        self.dialogue: Dialogue | None = None

    def run(self) -> Dialogue:
        """Launch and talk until READY."""
        r = self.request
        fds = dict(enumerate(self._options.stdio))
        fds.update({fd: fd for fd in range(3, 3 + r.preserve)})
        fds[r.gate_fd] = self._init_pidfd
        cgroup_fd = self._cgroup.join_fd()
        if cgroup_fd >= 0:
            fds[r.cgroup_fd] = cgroup_fd
        try:
            limit = timeouts.seconds("START", warn=self._log.warning)
            launched = launch(
                self.plan, r, fds, what=f"exec in container {self._id}", limit_s=limit
            )
        finally:
            if cgroup_fd >= 0:
                posix.close(cgroup_fd)
        dialogue = self.dialogue = Dialogue(launched, r, None)
        try:
            self._choose_cpus(launched.pid)
            if cgroup_fd < 0:
                self._cgroup.attach(launched.pid)
            dialogue.run()
        except BaseException:
            dialogue.abort()
            raise
        return dialogue

    def _choose_cpus(self, pid: int) -> None:
        """execCPUAffinity/initial: where the process is as it joins the cgroup, which on v1 is our doing too."""
        cpus = ((self.request.process or {}).get("execCPUAffinity") or {}).get("initial") or ""
        if not cpus.strip():
            return
        from skerry.spec.number_list import bits

        mask = bits(cpus)
        try:
            posix.sched_setaffinity(pid, [n for n in range(mask.bit_length()) if mask >> n & 1])
        except OSError as error:
            raise SpecError(
                "/execCPUAffinity/initial",
                f"cannot run on the CPUs {cpus}: {errno_text(error.errno or 0)}",
            ) from error

    def finish(self) -> None:
        """Let it become the program; errors of execve come out here."""
        dialogue = self.dialogue
        if dialogue is None:
            return
        try:
            dialogue.finish()
            dialogue.await_execve()
        except BaseException:
            dialogue.abort()
            raise
        dialogue.close()
