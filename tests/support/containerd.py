"""A stand-in for containerd: starts the shim as the real ones do, calls it, and takes its events.

What it knows of the protocol is written out here in bytes and numbers where that is short; messages are read and written
by the shim's own codec, which tests/unit/shim holds against the official library.
"""

import contextlib
import os
import select
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

from skerry.shims.task import messages, protobuf, task_api

HEADER = struct.Struct(">IIBB")
V2, V3 = task_api.SERVICES
CALL_S = 30


class RpcFailure(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def read_frame(sock: socket.socket) -> tuple[int, int, bytes]:
    length, stream, kind, _ = HEADER.unpack(receive(sock, HEADER.size))
    return stream, kind, receive(sock, length)


class Client:
    """A connection to a shim. `send` and `answer` are the halves of `call`."""

    def __init__(self, address: str, service: str = V2) -> None:
        self.service = service
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CALL_S)
        self.sock.connect(address.removeprefix("unix://"))
        self.stream = -1
        self.answers: dict[int, dict] = {}
        self.tables: dict[int, object] = {}

    def send(self, method: str, request: dict, *, timeout_s: float = 0, service: str = "") -> int:
        table, reply, _ = self.method(method)
        payload = protobuf.encode(table, request)
        return self.send_raw(service or self.service, method, payload, reply, timeout_s)

    def method(self, name: str) -> tuple:
        return task_api.METHODS[name]

    def send_raw(
        self, service: str, method: str, payload: bytes, reply: object, timeout_s: float = 0
    ) -> int:
        self.stream += 2
        body = protobuf.encode(
            messages.REQUEST,
            {
                "service": service,
                "method": method,
                "payload": payload,
                "timeout_nano": int(timeout_s * 1e9),
                "metadata": [{"key": "containerd-namespace-ttrpc", "value": "test"}],
            },
        )
        self.sock.sendall(HEADER.pack(len(body), self.stream, 1, 0) + body)
        self.tables[self.stream] = reply
        return self.stream

    def answer(self, stream: int, timeout_s: float = CALL_S) -> dict:
        end = time.monotonic() + timeout_s
        while stream not in self.answers:
            self.sock.settimeout(max(0.001, end - time.monotonic()))
            number, kind, body = read_frame(self.sock)
            assert kind == 2
            self.answers[number] = protobuf.decode(messages.RESPONSE, body)
        response = self.answers.pop(stream)
        status = response["status"]
        if status and status["code"]:
            raise RpcFailure(status["code"], status["message"])
        return protobuf.decode(self.tables.pop(stream), response["payload"])

    def has_answer(self, stream: int) -> bool:
        while stream not in self.answers and select.select([self.sock], [], [], 0)[0]:
            number, _, body = read_frame(self.sock)
            self.answers[number] = protobuf.decode(messages.RESPONSE, body)
        return stream in self.answers

    def call(self, method: str, *, timeout_s: float = 0, **request: object) -> dict:
        return self.answer(self.send(method, request, timeout_s=timeout_s))

    def close(self) -> None:
        self.sock.close()


class Events:
    """containerd's event service: keeps (topic, event) in order of arrival. It can be stopped and started again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.received: list[tuple[str, dict]] = []
        self.envelopes: list[dict] = []
        self.refuse = 0
        self._changed = threading.Condition()
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self.start()

    def start(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self.path.unlink()
        for sock in self._connections:
            with contextlib.suppress(OSError):  # it has gone by itself
                sock.shutdown(socket.SHUT_RDWR)
        self._connections = []

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self._connections.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            while True:
                stream, kind, body = read_frame(sock)
                assert kind == 1
                request = protobuf.decode(messages.REQUEST, body)
                assert request["service"] == "containerd.services.events.ttrpc.v1.Events"
                assert request["method"] == "Forward"
                refused, response = self.refuse > 0, {"payload": b""}
                if refused:
                    self.refuse -= 1
                    response = {"status": {"code": 14, "message": "not now"}}
                answer = protobuf.encode(messages.RESPONSE, response)
                sock.sendall(HEADER.pack(len(answer), stream, 2, 0) + answer)
                # What the test sees has been answered: cut off now, it will not come again.
                if not refused:
                    self._take(protobuf.decode(messages.FORWARD, request["payload"])["envelope"])
        except (EOFError, OSError):
            sock.close()

    def _take(self, envelope: dict) -> None:
        name, table = messages.EVENTS[envelope["topic"]]
        assert envelope["event"]["type_url"] == f"containerd.events.{name}"
        event = protobuf.decode(table, envelope["event"]["value"])
        with self._changed:
            self.envelopes.append(envelope)
            self.received.append((envelope["topic"], event))
            self._changed.notify_all()

    def wait(self, topic: str, timeout_s: float = 10, **fields: object) -> dict:
        """The first event of this topic with these fields."""

        def found() -> dict | None:
            for got, event in self.received:
                if got == topic and all(event[name] == value for name, value in fields.items()):
                    return event
            return None

        with self._changed:
            assert self._changed.wait_for(lambda: found() is not None, timeout_s), (
                f"no {topic} {fields} in {self.topics()}"
            )
            event = found()
            assert event is not None
            return event

    def topics(self) -> list[str]:
        return [topic.removeprefix("/tasks/") for topic, _ in self.received]


class Version:
    """How one containerd starts shims: its environment, and what it writes to the standard input of start."""

    def __init__(self, name: str, env: dict[str, str], stdin: str) -> None:
        self.name = name
        self.env = env
        self.stdin = stdin


_LATER = {"MAX_SHIM_VERSION": "2"}
VERSIONS = {
    "1.6": Version("1.6", {}, "options"),
    "1.7": Version("1.7", _LATER, "options"),
    "2.1": Version("2.1", _LATER, "options"),
    "2.3": Version("2.3", _LATER, "bootstrap"),
}


class Containerd:
    """One daemon of a version: state directory, event service, and the shims that it has started."""

    namespace = "test"

    def __init__(self, top: Path, shim: Path, version: str = "1.6") -> None:
        self.top = top
        self.shim = shim
        self.version = VERSIONS[version]
        self.state = top / "state"
        self.state.mkdir(parents=True)
        self.grpc = f"{top}/containerd.sock"
        self.events = Events(top / "containerd.sock.ttrpc")
        self.clients: list[Client] = []
        self.pids: set[int] = set()

    def bundle(self, id: str) -> Path:
        return self.state / id

    def environment(self) -> dict[str, str]:
        env = {
            "PATH": os.environ["PATH"],
            "TTRPC_ADDRESS": f"{self.grpc}.ttrpc",
            "GOMAXPROCS": "2",
            **self.version.env,
        }
        if self.version.env:
            env |= {"GRPC_ADDRESS": self.grpc, "NAMESPACE": self.namespace}
        return env

    def arguments(self, id: str, *, debug: bool = False) -> list[str]:
        words = [
            "-namespace", self.namespace, "-address", self.grpc, "-publish-binary", "/usr/bin/containerd", "-id", id,
        ]  # fmt: skip
        return [*words, "-debug"] if debug else words

    def stdin(self, id: str, options: bytes = b"") -> bytes:
        if self.version.stdin == "options":
            return options
        extensions = []
        if options:
            extensions = [{"value": protobuf.decode(messages.ANY, options)}]
        return protobuf.encode(
            messages.BOOTSTRAP,
            {
                "instance_id": id,
                "namespace": self.namespace,
                "containerd_version": "v2.3.4",
                "ttrpc_address": f"{self.grpc}.ttrpc",
                "grpc_address": self.grpc,
                "containerd_binary": "/usr/bin/containerd",
                "extensions": extensions,
            },
        )

    def run_start(
        self, id: str, *, debug: bool = False, options: bytes = b"", **more: object
    ) -> subprocess.CompletedProcess:
        """stdout and stderr together, as containerd reads them; it ends when both are closed."""
        return subprocess.run(
            [self.shim, *self.arguments(id, debug=debug), "start"],
            cwd=self.bundle(id),
            env=self.environment(),
            input=self.stdin(id, options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=20,
            process_group=0,
            **more,
        )

    def start(self, id: str, **how: object) -> str:
        """The address that start answers."""
        done = self.run_start(id, **how)
        assert done.returncode == 0, done.stdout
        text = done.stdout.decode()
        if text.startswith("{"):
            import json

            answer = json.loads(text)
            assert answer["version"] == 3 and answer["protocol"] == "ttrpc"
            text = answer["address"]
        assert text.startswith("unix:///") and "\n" not in text, text
        assert (self.bundle(id) / "address").read_text() == text
        return text

    def connect(self, address: str, service: str = V2) -> Client:
        client = Client(address, service)
        self.clients.append(client)
        self.pids.add(client.call("Connect", id="")["shim_pid"])
        return client

    def delete(self, id: str) -> dict:
        """The delete action: cwd is the bundle, what is on stdout is the answer."""
        done = subprocess.run(
            [self.shim, *self.arguments(id), "-bundle", self.bundle(id), "delete"],
            cwd=self.bundle(id),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        return protobuf.decode(messages.DELETED, done.stdout)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.events.stop()
