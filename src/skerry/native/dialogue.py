"""Our side of the conversation: what each record asks of us.

Runs in: create, exec (hot).   Imports: posix; linux, native, plan.
Source:  the arrows in native/conversation.py.
Never:   knows the order of a recipe: it answers what comes.
"""

import posix

from skerry.errors import EngineError, Error, InitError, KernelError, SpecError
from skerry.linux import process
from skerry.linux.fd import close_all
from skerry.native import facts
from skerry.native.conversation import Record
from skerry.native.failure import died, explain
from skerry.native.launch import END_S, Launched, process_item
from skerry.plan import ops
from skerry.plan.namespaces import MAPS_USER
from skerry.plan.program import HOME_BYTES
from skerry.plan.request import Request
from skerry.state.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CLOCKS = ("monotonic", "boottime")


class Dialogue:
    """Answers skerry-init until it is ready.

    pid, pidfd, start_time   of the process that becomes the program, once it is there
    console_fd               the master of its terminal, or -1
    """

    __slots__ = (
        "_explain_end", "_handlers", "_hooks", "_journal", "_last", "_launched", "_middle", "_on_process",
        "_request", "console_fd", "pid", "pidfd", "start_time",
    )  # fmt: skip

    def __init__(
        self,
        launched: Launched,
        request: Request,
        journal: "Journal | None",
        *,
        on_process: "Callable[[int], None] | None" = None,
        hooks: "Callable[[Dialogue], bytes] | None" = None,
        explain_end: "Callable[[], str] | None" = None,
    ) -> None:
        self._launched = launched
        self._request = request
        self._journal = journal
        self._on_process = on_process
        self._hooks = hooks
        self._explain_end = explain_end
        self._last = 0  # operation of the last record
        self._middle: list[int] = []
        self.pid, self.pidfd, self.start_time = -1, -1, 0
        self.console_fd = -1
        self._handlers = {
            ops.PID: self._on_pid,
            ops.MAPS: self._on_maps,
            ops.HOOKS: self._on_hooks,
            ops.PASSWD: self._on_passwd,
            ops.FD: self._on_fd,
        }

    def run(self) -> None:
        """Talk until READY.

        Errors  what skerry-init reported; InitError if it died without a word.
        """
        self._launched.conversation.send(ops.GO)
        announced = 0
        early: list[Record] = []
        try:
            while True:
                record = self._next(early, announced)
                self._last = record.op
                if record.kind == ops.READY:
                    return
                if record.kind == ops.PID:
                    announced += 1
                self._handlers[record.kind](record)
        finally:
            close_all([record.fd for record in early if record.fd >= 0])

    def _next(self, early: "list[Record]", announced: int) -> Record:
        """The next record of a process that we know of.

        A new process may talk, or have made the next one, before the one that made it has told its pid.
        """
        while True:
            for record in early:
                if record.process <= announced:
                    early.remove(record)
                    return record
            record = self._receive()
            if record.process <= announced:
                return record
            early.append(record)

    def _receive(self) -> Record:
        try:
            record = self._launched.conversation.receive()
        except EngineError as error:
            step = self._launched.plan.label(self._last).text
            raise EngineError(f'{error.message} after the step "{step}"') from error
        if record is None:
            raise self._died()
        if record.kind == ops.FAILED:
            raise explain(self._launched.plan, record)
        return record

    def finish(self, payload: bytes = b"") -> None:
        """The last word: everything is on record."""
        self._launched.conversation.send(ops.GO, payload)

    def await_execve(self) -> None:
        """exec: end of file means that the program runs.

        Errors  what execve said.
        """
        record = self._launched.conversation.receive()
        if record is not None:
            raise explain(self._launched.plan, record)

    def close(self) -> None:
        """Give back what the middle processes held; what the caller took stays open."""
        self._launched.close()
        for pidfd in self._middle:
            process.wait_exit(pidfd, END_S)
            posix.close(pidfd)
        self._middle.clear()

    def abort(self) -> None:
        """Kill and reap everything of the plan that still lives; once done it does nothing.

        Nothing is waited for without end: a process in a frozen cgroup, or in the kernel, may stay for release.
        """
        self._launched.conversation.close()
        for pidfd in (self.pidfd, *self._middle, self._launched.pidfd):
            if pidfd >= 0:
                process.send_signal(pidfd, 9)
        if self.pidfd >= 0:
            process.wait_exit(self.pidfd, END_S)
            posix.close(self.pidfd)
            self.pidfd = -1
        if self.console_fd >= 0:
            posix.close(self.console_fd)
            self.console_fd = -1
        self.close()

    def _on_pid(self, record: Record) -> None:
        if self.pidfd >= 0:
            self._middle.append(self.pidfd)
        self.pid, self.pidfd = record.value, record.fd
        self.start_time = process.start_time(self.pid)
        if self._journal is not None:
            self._journal.replace("process", process_item(self.pid, self.start_time))
        if self._on_process is not None:
            self._on_process(self.pid)

    def _on_maps(self, record: Record) -> None:
        linux = self._request.linux
        if record.value == MAPS_USER:
            for name, key in (("uid_map", "uidMappings"), ("gid_map", "gidMappings")):
                lines = [
                    f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in linux.get(key) or ()
                ]
                self._write(name, "".join(lines), f"/linux/{key}")
        else:
            lines = []
            for clock in _CLOCKS:
                offset = (linux.get("timeOffsets") or {}).get(clock)
                if offset:
                    lines.append(f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n")
            self._write("timens_offsets", "".join(lines), "/linux/timeOffsets")
        self._launched.conversation.send(ops.GO)

    def _write(self, name: str, content: str, pointer: str) -> None:
        """One write: the kernel takes a map whole and once.

        A process that has ended meanwhile is no error here: its last record, or the lack of one, comes next.
        """
        path = f"/proc/{self.pid}/{name}"
        try:
            fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
            try:
                posix.write(fd, content.encode())
            finally:
                posix.close(fd)
        except (FileNotFoundError, ProcessLookupError):
            return
        except OSError as error:
            raise SpecError(pointer, str(KernelError("write", name, error.errno or 0))) from error

    def _on_hooks(self, record: Record) -> None:
        payload = self._hooks(self) if self._hooks is not None else b""
        self._launched.conversation.send(ops.GO, payload)

    def _on_passwd(self, record: Record) -> None:
        user = (self._request.process or {}).get("user") or {}
        home = b"/"
        if record.fd >= 0:
            try:
                home = facts.passwd_home(record.fd, user.get("uid", 0)) or b"/"
            finally:
                posix.close(record.fd)
        text = b"HOME=" + home
        if len(text) >= HOME_BYTES or b"\0" in text:
            text = b"HOME=/"
        self._launched.conversation.send(ops.REPLY, text + b"\0")

    def _on_fd(self, record: Record) -> None:
        """With an fd: the terminal's master. Without: the number of the seccomp listener there."""
        if record.fd >= 0:
            self.console_fd = record.fd
            return
        from skerry.native import notify

        notify.hand_over(self._request, self.pid, self.pidfd, record.value)
        self._launched.conversation.send(ops.GO)

    def _died(self) -> Error:
        pidfd = self.pidfd if self.pidfd >= 0 else self._launched.pidfd
        ended = process.wait_exit(pidfd, END_S)
        if ended is None:
            return InitError("skerry-init closed the conversation")
        return died(*ended, self._explain_end() if self._explain_end is not None else "")
