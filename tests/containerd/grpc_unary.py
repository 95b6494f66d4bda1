"""gRPC calls with one request and one answer, over a unix socket, without a thread.

Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md of the grpc project); h2 does the HTTP/2.

The usual gRPC library starts threads in its process, and other suites of the same run fork theirs.
"""

import socket
import struct
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events

TIMEOUT_S = 60


class RpcError(Exception):
    """The server's answer was an error: its gRPC code and its words."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {message} (code {code})")
        self.code, self.message = code, message


class Connection:
    """One connection, used by one caller at a time."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        config = h2.config.H2Configuration(header_encoding="utf-8")
        self.http = h2.connection.H2Connection(config)
        self.http.initiate_connection()
        self.flush()

    def call(
        self,
        service: str,
        method: str,
        request: bytes,
        *,
        timeout_s: float = TIMEOUT_S,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> bytes:
        stream = self.http.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/{service}/{method}"),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("grpc-timeout", f"{int(timeout_s * 1000)}m"),
            *metadata,
        ]
        self.http.send_headers(stream, headers)
        self.http.send_data(stream, struct.pack(">BI", 0, len(request)) + request, end_stream=True)
        self.flush()
        self.socket.settimeout(timeout_s + 5)
        body, trailers = self.receive(stream)
        if code := int(trailers.get("grpc-status", "2")):
            raise RpcError(method, code, unquote(trailers.get("grpc-message", "")))
        return body[5:]

    def receive(self, stream: int) -> tuple[bytes, dict[str, str]]:
        body, headers = b"", {}
        while data := self.socket.recv(65536):
            for event in self.http.receive_data(data):
                if getattr(event, "stream_id", stream) != stream:
                    continue
                if isinstance(event, h2.events.DataReceived):
                    body += event.data
                    self.http.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                    headers |= dict(event.headers)
                elif isinstance(event, h2.events.StreamEnded):
                    self.flush()
                    return body, headers
                elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    raise ConnectionError(f"the server gave up: {event}")
            self.flush()
        raise ConnectionError("the server closed the connection")

    def flush(self) -> None:
        self.socket.sendall(self.http.data_to_send())

    def close(self) -> None:
        self.socket.close()
