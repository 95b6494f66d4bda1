"""Just enough ELF: what a program needs to be loaded, and whether a kernel can be entered by PVH.

Runs in: skerry image build.   Imports: struct; errors.
Source:  elf(5); xen/interface/elfnote.h for the entry that QEMU uses.
Never:   reads anything but 64-bit little-endian files.
"""

import struct

from skerry.errors import Error

MAGIC = b"\x7fELF"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_NOTE = struct.Struct("<III")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_XEN_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY


class Elf:
    """A parsed file.

    interpreter   path of its dynamic linker, "" for a static program or a library
    needed        names of the libraries that it is linked with
    search        directories that it asks to be searched for them; may hold $ORIGIN
    """

    __slots__ = ("_data", "_segments", "interpreter", "needed", "search")

    def __init__(self, data: bytes, name: str) -> None:
        """Errors  Error for what is no ELF of this kind."""
        if not data.startswith(MAGIC + b"\x02\x01") or len(data) < _HEADER.size:
            raise Error(f"cannot read {name}: it is not a 64-bit little-endian ELF file")
        header = _HEADER.unpack_from(data)
        offset, size, count = header[5], header[9], header[10]
        try:
            # (type, flags, offset, virtual address, physical address, size in file, in memory, alignment)
            self._segments = [_SEGMENT.unpack_from(data, offset + size * n) for n in range(count)]
            self._data = data
            self.interpreter = b"".join(self._contents(_PT_INTERP)).rstrip(b"\0").decode()
            self.needed: list[str] = []
            self.search: list[str] = []
            self._read_dynamic()
        except (struct.error, ValueError) as error:
            raise Error(f"cannot read {name}: its ELF structure is damaged") from error

    def can_start_by_pvh(self) -> bool:
        """Whether a note tells QEMU where to enter the kernel."""
        for notes in self._contents(_PT_NOTE):
            at = 0
            while at + _NOTE.size <= len(notes):
                name_size, size, kind = _NOTE.unpack_from(notes, at)
                name = notes[at + _NOTE.size : at + _NOTE.size + name_size]
                if kind == _XEN_ENTRY and name == b"Xen\0":
                    return True
                at += _NOTE.size + _aligned(name_size) + _aligned(size)
        return False

    def _contents(self, kind: int) -> "list[bytes]":
        return [self._data[s[2] : s[2] + s[5]] for s in self._segments if s[0] == kind]

    def _read_dynamic(self) -> None:
        entries = [
            entry for block in self._contents(_PT_DYNAMIC) for entry in _DYNAMIC.iter_unpack(block)
        ]
        strings = next((value for tag, value in entries if tag == _DT_STRTAB), None)
        if strings is None:
            return
        start = self._file_offset(strings)
        for tag, value in entries:
            if tag in (_DT_NEEDED, _DT_RPATH, _DT_RUNPATH):
                end = self._data.index(b"\0", start + value)
                text = self._data[start + value : end].decode()
                if tag == _DT_NEEDED:
                    self.needed.append(text)
                else:
                    self.search.extend(text.split(":"))

    def _file_offset(self, address: int) -> int:
        for kind, _, offset, virtual, _, size, _, _ in self._segments:
            if kind == _PT_LOAD and virtual <= address < virtual + size:
                return int(offset + address - virtual)
        raise ValueError(address)


def _aligned(size: int) -> int:
    return size + -size % 4
