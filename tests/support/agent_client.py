"""The host's end of a link to an agent, for tests: requests, events, streams; written from docs/vm.md alone."""

import base64
import collections
import json
import os
import select
import socket
import struct
import time

CONTROL, DATA, CREDIT, CLOSE = 1, 2, 3, 4
HEADER = struct.Struct("<BBHI")
WINDOW = 65536
LIMIT_S = 60


class Refused(Exception):  # noqa: N818
    """The agent answered with an error: `.kind` and `.document`."""

    def __init__(self, document: dict) -> None:
        super().__init__(document["message"])
        self.kind, self.document = document["kind"], document


class Ended(Exception):  # noqa: N818
    """The agent closed the link."""


class Stream:
    """What came of an output; `keep_reading` False leaves it without credit."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.closed = False
        self.keep_reading = True
        self.credit = 0  # of an input


class Client:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.answers: dict[int, dict] = {}
        self.events: list[dict] = []
        self.order: list[tuple] = []  # ("close", stream) and ("exit", container, process), as they came
        self.streams: dict[int, Stream] = collections.defaultdict(Stream)
        self.next_id = self.next_stream = 0

    # frames

    def send(self, kind: int, stream: int, payload: bytes = b"") -> None:
        """Send, and take what comes meanwhile: neither side may block the other."""
        self.sock.setblocking(False)
        rest = HEADER.pack(kind, 0, stream, len(payload)) + payload
        while rest:
            ready = select.select([self.sock], [self.sock], [], LIMIT_S)
            if ready[1]:
                rest = rest[self.sock.send(rest) :]
            elif ready[0]:
                self.pump(0)

    def pump(self, limit_s: float) -> bool:
        """Take what is there, or comes within the limit."""
        if not select.select([self.sock], [], [], limit_s)[0]:
            return False
        data = self.sock.recv(1 << 20)
        if not data:
            raise Ended
        self.buffer += data
        while len(self.buffer) >= HEADER.size:
            kind, zero, stream, length = HEADER.unpack_from(self.buffer)
            assert not zero
            if len(self.buffer) < HEADER.size + length:
                break
            payload = bytes(self.buffer[HEADER.size : HEADER.size + length])
            del self.buffer[: HEADER.size + length]
            self.take(kind, stream, payload)
        return True

    def take(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == CONTROL:
            document = json.loads(payload)
            if "event" in document:
                self.events.append(document)
                if document["event"] == "exit":
                    self.order.append(("exit", document["container"], document["process"]))
            else:
                self.answers[document["id"]] = document
        elif kind == DATA:
            state = self.streams[stream]
            assert not state.closed, f"data after CLOSE of stream {stream}"
            state.data += payload
            if state.keep_reading:
                self.send(CREDIT, stream, struct.pack("<I", len(payload)))
        elif kind == CREDIT:
            self.streams[stream].credit += struct.unpack("<I", payload)[0]
        else:
            assert not self.streams[stream].closed, f"a second CLOSE of stream {stream}"
            self.streams[stream].closed = True
            self.order.append(("close", stream))

    def until(self, condition, what: str, limit_s: float = LIMIT_S):
        """Pump until the condition has a true value, which is returned."""
        deadline = time.monotonic() + limit_s
        while not (found := condition()):
            rest = deadline - time.monotonic()
            if rest <= 0:
                raise TimeoutError(f"no {what} within {limit_s} s; events: {self.events[-5:]}")
            self.pump(rest)
        return found

    # requests

    def ask(self, op: str, **fields: object) -> int:
        """Send a request; its number."""
        self.next_id += 1
        self.send(CONTROL, 0, json.dumps({"id": self.next_id, "op": op, **fields}).encode())
        return self.next_id

    def answer(self, id: int, limit_s: float = LIMIT_S):
        self.until(lambda: id in self.answers, f"answer to request {id}", limit_s)
        document = self.answers.pop(id)
        if "error" in document:
            raise Refused(document["error"])
        return document["ok"]

    def request(self, op: str, **fields: object):
        return self.answer(self.ask(op, **fields))

    def hello(self) -> dict:
        return self.until(lambda: next((e for e in self.events if e["event"] == "hello"), None), "hello")

    def seed(self) -> dict:
        entropy = base64.b64encode(os.urandom(64)).decode()
        return self.request("seed", entropy=entropy, time_ns=time.time_ns())

    # containers

    def open_streams(self, *names: str, reading: bool = True) -> dict[str, int]:
        """Numbers for a request; call `grant` for the outputs once it was sent."""
        numbers = dict.fromkeys(("stdin", "stdout", "stderr"), 0)
        for name in names:
            self.next_stream += 1
            numbers[name] = self.next_stream
            self.streams[self.next_stream].keep_reading = reading
        return numbers

    def grant(self, numbers: dict[str, int], size: int = WINDOW) -> None:
        for name in ("stdout", "stderr"):
            if numbers[name] and self.streams[numbers[name]].keep_reading:
                self.send(CREDIT, numbers[name], struct.pack("<I", size))

    def create(self, container: str, spec: dict, *, streams: dict | None = None, **more: object) -> int:
        numbers = streams or self.open_streams()
        terminal = bool((spec.get("process") or {}).get("terminal"))
        fields = {"storages": [], "annotations": {}, "terminal": terminal, **more}
        id = self.ask("create", container=container, spec=spec, streams=numbers, **fields)
        self.grant(numbers)
        return self.answer(id)["pid"]

    def ask_exec(self, container: str, name: str, process: dict, streams: dict, **more: object) -> int:
        fields = {"cgroup": "", "ignore_paused": False, **more}
        id = self.ask("exec", container=container, process=name, spec=process, streams=streams, **fields)
        self.grant(streams)
        return id

    def exec(self, container: str, name: str, process: dict, *, streams: dict | None = None, **more: object) -> int:
        return self.answer(self.ask_exec(container, name, process, streams or self.open_streams(), **more))["pid"]

    def exit_of(self, container: str, name: str = "init", limit_s: float = LIMIT_S) -> dict:
        def found() -> dict | None:
            for event in self.events:
                if event["event"] == "exit" and (event["container"], event["process"]) == (container, name):
                    return event
            return None

        return self.until(found, f"exit of {container}/{name}", limit_s)

    def write(self, stream: int, data: bytes) -> None:
        """Into an input, as its credit allows."""
        state = self.streams[stream]
        while data:
            self.until(lambda: state.credit > 0, f"credit for stream {stream}")
            part, data = data[: min(state.credit, 32768)], data[min(state.credit, 32768) :]
            state.credit -= len(part)
            self.send(DATA, stream, part)

    def output(self, stream: int) -> bytes:
        return bytes(self.streams[stream].data)
