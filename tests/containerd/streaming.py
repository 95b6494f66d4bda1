"""The streams of CRI's Exec, Attach and PortForward, by WebSocket.

Source: RFC 6455; Kubernetes' `v4.channel.k8s.io`: the first byte of a message is its channel. Of a
        forwarded port, 0 is the data and 1 the error, and each begins with the port's two bytes.
"""

import base64
import json
import os
import socket
import struct
import threading
from urllib.parse import urlsplit

from containerd_driver import Containerd
from support import host

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)  # channels of a process
BINARY, CLOSE, PING = 2, 8, 9
TIMEOUT_S = 20


class Streams:
    """Of a process; with a port, of a connection to it."""

    def __init__(self, url: str, daemon: Containerd, port: int = 0) -> None:
        parts = urlsplit(url)
        self.socket = connect(daemon, parts.hostname, parts.port)
        self.socket.settimeout(TIMEOUT_S)
        self.stdout, self.stderr, self.error = bytearray(), bytearray(), bytearray()
        self.buffer = b""
        self.open = True
        if port:
            self.channels = {0: self.stdout, 1: self.error}
        else:
            self.channels = {STDOUT: self.stdout, STDERR: self.stderr, ERROR: self.error}
        self.shake_hands(parts.path + (f"?port={port}" if port else ""), parts.netloc)

    def shake_hands(self, path: str, netloc: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nOrigin: http://{netloc}\r\n\r\n"
        )
        self.socket.sendall(request.encode())
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head

    def fill(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the server closed the streams")
        self.buffer += data

    def send(self, channel: int, data: bytes) -> None:
        body = bytes([channel]) + data
        mask = os.urandom(4)
        length = (
            struct.pack(">B", 0x80 | len(body))
            if len(body) < 126
            else struct.pack(">BH", 0x80 | 126, len(body))
        )
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
        self.socket.sendall(bytes([0x80 | BINARY]) + length + mask + masked)

    def write(self, data: bytes) -> None:
        self.send(STDIN, data)

    def resize(self, columns: int, rows: int) -> None:
        self.send(RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    def receive(self) -> None:
        """Take one message into its stream."""
        kind, body = self.frame()
        if kind == CLOSE:
            self.open = False
        elif kind != PING and body:
            self.channels[body[0]].extend(body[1:])

    def frame(self) -> tuple[int, bytes]:
        first, second = self.take(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.take(8))
        return first & 0x0F, self.take(length)

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.fill()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_until(self, wanted: bytes) -> bytes:
        while wanted not in self.stdout:
            self.receive()
        return bytes(self.stdout)

    def exit_code(self) -> int:
        """Read to the end; the last word is a status in JSON."""
        try:
            while self.open:
                self.receive()
        except EOFError:
            pass
        status = json.loads(self.error)
        if status["status"] == "Success":
            return 0
        causes = status["details"].get("causes", [])
        codes = [int(c["message"]) for c in causes if c.get("reason") == "ExitCode"]
        if not codes:
            raise ValueError(f"no exit code: {status}")
        return codes[0]

    def __enter__(self) -> "Streams":
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()


def connect(daemon: Containerd, address: str, port: int) -> socket.socket:
    """Connect in the daemon's network namespace, which a thread enters for as long as it takes."""
    found: list[socket.socket | OSError] = []

    def run() -> None:
        try:
            host.join(f"/proc/{daemon.nursery.pid}/ns/net", host.CLONE_NEWNET)
            found.append(socket.create_connection((address, port), TIMEOUT_S))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]
