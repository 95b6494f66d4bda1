"""A core that records what the command line asks of it, and answers what the test told it to."""

import sys
import types

from skerry.errors import NotFound, StateError

RECORD = {
    "ID": "c1",
    "Owner": "root",
    "Bundle": "/b",
    "Rootfs": "/b/rootfs",
    "Created": "2026-01-02T03:04:05.000000006Z",
}
STATE = {
    "ociVersion": "1.2.0",
    "id": "c1",
    "pid": 42,
    "status": "running",
    "bundle": "/b",
    "rootfs": "/b/rootfs",
    "created": "2026-01-02T03:04:05.000000006Z",
    "owner": "root",
}
PROCESS = {
    "terminal": True,
    "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
    "args": ["sh"],
    "env": ["PATH=/bin", "TERM=xterm"],
    "cwd": "/",
    "capabilities": {
        "bounding": ["CAP_KILL"],
        "effective": ["CAP_KILL"],
        "permitted": ["CAP_KILL"],
    },
}


class Core:
    """What happened, in order, and what shall happen.

    `answers` maps a method to a value or an error to raise, `during` to a function to call.
    """

    def __init__(self):
        self.calls = []
        self.answers = {}
        self.during = {}
        self.known = ["c1"]
        self.root = None

    def call(self, name, *words, **options):
        self.calls.append((name, words, options))
        if name in self.during:
            self.during[name]()
        answer = self.answers.get(name)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def names(self):
        return [name for name, _, _ in self.calls]

    def options_of(self, name):
        return next(options for called, _, options in self.calls if called == name)

    def install(self, monkeypatch):
        core = self

        class Store:
            def ids(self):
                return list(core.known)

        def open_store(root):
            core.root = root
            return Store()

        class Container:
            console_fd = -1

            def __init__(self, id):
                self.id = id
                self.record = {**RECORD, "ID": id}

            @classmethod
            def create(cls, store, id, **options):
                core.call("create", id, **options)
                return cls(id)

            @classmethod
            def load(cls, store, id, *, log):
                core.call("load", id)
                if id not in core.known:
                    raise NotFound(id)
                return cls(id)

            def spec(self):
                return {"process": PROCESS}

            def state(self):
                core.call(f"state {self.id}")
                return core.call("state") or {**STATE, "id": self.id}

            def status(self):
                return core.call("status") or "running"

            def exec(self, process, **options):
                core.call("exec", process, **options)
                return Container(self.id)

        def method(name):
            def call(self, *words, **options):
                return core.call(name, *words, **options)

            return call

        for name in (
            "start",
            "kill",
            "delete",
            "pause",
            "resume",
            "update",
            "processes",
            "process_table",
            "resize",
            "send_signal",
        ):
            setattr(Container, name, method(name))
        # The end of a process is a descriptor that is readable: /dev/null always is.
        Container.pidfd = property(lambda self: core.pidfd)
        Container.wait = lambda self: core.call("wait") or 0

        def delete(store, id, *, force, log):
            core.call("delete by id", id, force=force)
            if id not in core.known and not force:
                raise NotFound(id)

        def watch(container, *, interval_s, stats_only=False):
            core.call("watch", interval_s=interval_s, stats_only=stats_only)
            yield {"type": "stats", "id": container.id, "data": {"pids": {"current": 1}}}

        for module, names in {
            "skerry.container": {
                "Container": Container,
                "open_store": open_store,
                "delete": delete,
            },
            "skerry.events": {"watch": watch},
        }.items():
            fake = types.ModuleType(module)
            fake.__dict__.update(names)
            monkeypatch.setitem(sys.modules, module, fake)


def state_error(message):
    return StateError(message, id="c1", status="stopped", verb="x")
