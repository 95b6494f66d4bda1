"""A FUSE file system that is one regular file, whose content never comes: who reads it waits until the test is over."""

import os
import struct
import threading
from pathlib import Path

from . import host

_IN_HEADER, _OUT_HEADER = struct.Struct("<IIQ"), struct.Struct("<IiQ")
_FORGET, _GETATTR, _OPEN, _READ, _RELEASE, _FLUSH, _INIT, _INTERRUPT = 2, 3, 14, 15, 18, 25, 26, 36
_SILENT = (_FORGET, _INTERRUPT)  # the kernel wants no answer
_EIO, _ENOSYS = 5, 38
_MODE, _SIZE = 0o100644, 100
_ATTRIBUTES = struct.pack("<QII6Q10I", 0, 0, 0, 1, _SIZE, 1, 0, 0, 0, 0, 0, 0, _MODE, 1, 0, 0, 0, 4096, 0)
_ANSWERS = {
    # ASYNC_READ, with which the kernel lets go of a reader that is killed
    _INIT: struct.pack("<4I2H2I2H8I", 7, 31, 0, 1, 1, 1, 4096, 1, 1, *[0] * 9),
    _GETATTR: _ATTRIBUTES,
    _OPEN: struct.pack("<QII", 1, 0, 0),
    _FLUSH: b"",
    _RELEASE: b"",
}


class SilentFile:
    """Use as a context, on a file that is there. `asked` is set once somebody waits for the content."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, threading.Event()
        self._waiting: list[int] = []
        self._over = False
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "SilentFile":
        host.mount("silent", self.path, "fuse", 0, f"fd={self._fd},rootmode={_MODE:o},user_id=0,group_id=0,allow_other")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for unique in self._waiting:
            self._say(unique, -_EIO)
        host.umount(self.path)  # the device says ENODEV once the last mount is gone
        self._thread.join(5)
        os.close(self._fd)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._fd, 1 << 17)
            except OSError:
                return
            _, code, unique = _IN_HEADER.unpack_from(request)
            if code == _READ and not self._over:
                self._waiting.append(unique)
                self.asked.set()
            elif code not in _SILENT:
                self._say(unique, 0 if code in _ANSWERS else -_ENOSYS, _ANSWERS.get(code, b""))

    def _say(self, unique: int, error: int, body: bytes = b"") -> None:
        try:
            os.write(self._fd, _OUT_HEADER.pack(_OUT_HEADER.size + len(body), error, unique) + body)
        except OSError:  # ENOENT: whoever asked was killed meanwhile
            return
