"""The table of malformed configurations: every row of security.md section 8.

`ROWS` holds (name, change, pointer, words): a change is a function on a fresh spec; skerry's error names the pointer, every
runtime's the words. `DOCUMENTS` are wrong as text, `ACCEPTED` looks wrong and is not.
"""

import json
from collections.abc import Callable
from pathlib import Path

from support.spec import drop_namespace, fresh_spec, namespace

Change = Callable[[dict], object]
DELETE = object()


def put(pointer: str, value: object) -> Change:
    """Set, add (`-`) or delete what a pointer names; missing parents are made."""

    def change(spec: dict) -> None:
        here: object = spec
        *parents, last = pointer.strip("/").split("/")
        for word in parents:
            here = here[int(word)] if isinstance(here, list) else here.setdefault(word, {})
        if value is DELETE:
            del here[int(last) if isinstance(here, list) else last]
        elif isinstance(here, list):
            here.append(value) if last == "-" else here.__setitem__(int(last), value)
        else:
            here[last] = value

    return change


def put_all(*changes: Change) -> Change:
    return lambda spec: [change(spec) for change in changes]


def mount(**fields: object) -> Change:
    """Add a mount, the eighth of the spec (index 7)."""
    return lambda spec: spec["mounts"].append({k: v for k, v in fields.items()})


def rows(name: str, pointer: str, *values: object, at: str = "", words: str = "") -> list:
    """Make a row for each value of one place; `at` is where the error is, if elsewhere."""
    return [(f"{name} {show(value)}", put(pointer, value), at or pointer, words) for value in values]


def show(value: object) -> str:
    text = "missing" if value is DELETE else json.dumps(value)
    return text if len(text) < 40 else f"{text[:30]}...{len(text)}"


def now(name: str) -> str:
    """Read a setting of the host: a runtime that writes what it should refuse changes nothing."""
    return Path(f"/proc/sys/{name}").read_text().strip()


def maps(*lines: tuple[int, int, int]) -> list[dict]:
    return [dict(zip(("containerID", "hostID", "size"), line, strict=True)) for line in lines]


def with_maps(uid: list, gid: list) -> Change:
    def change(spec: dict) -> None:
        namespace(spec, "user")
        spec["linux"]["uidMappings"], spec["linux"]["gidMappings"] = uid, gid

    return change


LIMIT = {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}
GOOD_MAP = maps((0, 100000, 65536))

ROWS: list[tuple[str, Change, str, str]] = [
    # version and root
    *rows("ociVersion", "/ociVersion", DELETE, "one", "99.0.0", "2.0.0", 1, ""),
    *rows("root", "/root", DELETE, [], "rootfs"),
    *rows("root.path", "/root/path", DELETE, "", "missing", "config.json", 5),
    *rows("root.readonly", "/root/readonly", "yes", 1),
    ("annotation key empty", put("/annotations", {"": "x"}), "/annotations", ""),
    ("annotation value a number", put("/annotations", {"a": 5}), "/annotations/a", ""),
    *rows("annotations", "/annotations", [], "x"),
    # process
    *rows("process", "/process", DELETE, [], "sh", words=""),
    *rows("args", "/process/args", DELETE, [], [""], "true", [1]),
    ("args with NUL", put("/process/args", ["true", "a\0b"]), "/process/args/1", ""),
    ("args not found", put("/process/args", ["nowhere"]), "/process/args/0", "executable file not found in $PATH"),
    ("args missing path", put("/process/args", ["/no/where"]), "/process/args/0", "no such file or directory"),
    ("args a directory", put("/process/args", ["/bin"]), "/process/args/0", ""),
    *rows("cwd", "/process/cwd", DELETE, "", "tmp", "/etc/passwd", 1),
    ("cwd with NUL", put("/process/cwd", "/a\0b"), "/process/cwd", ""),
    ("env without =", put("/process/env/-", "NOTHING"), "/process/env/2", ""),
    ("env with NUL", put("/process/env/-", "A=b\0c"), "/process/env/2", ""),
    ("env a number", put("/process/env/-", 5), "/process/env/2", ""),
    *rows("env", "/process/env", "A=b", {}),
    *rows("uid", "/process/user/uid", -1, 2**32, 2**32 - 1, 1.5, True, "0", 10**30),
    *rows("gid", "/process/user/gid", -1, 2**32, 1.5, True, "0"),
    *rows("additionalGids", "/process/user/additionalGids", [-1], [2**32], ["5"], 5),
    *rows("umask", "/process/user/umask", "022", -1),
    *rows("capabilities", "/process/capabilities", ["CAP_CHOWN"], "CAP_CHOWN"),
    *rows("bounding", "/process/capabilities/bounding", "CAP_CHOWN", {}),
    ("rlimit of an unknown type", put("/process/rlimits", [{**LIMIT, "type": "RLIMIT_FROB"}]), "/process/rlimits/0/type", ""),
    ("rlimit twice", put("/process/rlimits", [LIMIT, LIMIT]), "/process/rlimits/1", ""),
    ("rlimit soft > hard", put("/process/rlimits", [{**LIMIT, "soft": 7}]), "/process/rlimits/0", ""),
    ("rlimit negative", put("/process/rlimits", [{**LIMIT, "soft": -1}]), "/process/rlimits/0/soft", ""),
    ("rlimit as text", put("/process/rlimits", [{**LIMIT, "hard": "6"}]), "/process/rlimits/0/hard", ""),
    *rows("oomScoreAdj", "/process/oomScoreAdj", 2000, -1001, "1", 1.5),
    ("unknown scheduler", put("/process/scheduler", {"policy": "SCHED_FROB"}), "/process/scheduler/policy", ""),
    ("unknown io class", put("/process/ioPriority", {"class": "IOPRIO_CLASS_FROB", "priority": 1}), "/process/ioPriority/class", ""),
    ("io priority 9", put("/process/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 9}), "/process/ioPriority/priority", ""),
    ("unknown personality", put("/linux/personality", {"domain": "FROB"}), "/linux/personality/domain", ""),
    ("terminal without a socket", put("/process/terminal", True), "", "console socket"),
    *rows("terminal", "/process/terminal", "true", 1),
    ("profile that is not loaded", put("/process/apparmorProfile", "nowhere"), "/process/apparmorProfile", ""),
    ("label without SELinux", put("/process/selinuxLabel", "u:r:t:s0"), "/process/selinuxLabel", ""),
    *rows("noNewPrivileges", "/process/noNewPrivileges", "true", 1),
    # uts
    ("hostname without uts", lambda s: drop_namespace(s, "uts"), "/hostname", ""),
    ("domainname without uts", put_all(put("/hostname", DELETE), put("/domainname", "x"), lambda s: drop_namespace(s, "uts")),
     "/domainname", ""),
    *rows("hostname", "/hostname", "x" * 300, 5),
    *rows("domainname", "/domainname", "x" * 300, 5),
    # mounts
    ("mount without a destination", mount(type="tmpfs", source="tmpfs"), "/mounts/7/destination", ""),
    ("mount on the empty path", mount(destination="", type="tmpfs", source="tmpfs"), "/mounts/7/destination", ""),
    ("unknown file system", mount(destination="/vol", type="frobfs", source="x"), "/mounts/7", ""),
    ("missing bind source", mount(destination="/vol", type="bind", source="/no/where", options=["bind"]), "/mounts/7/source", ""),
    ("unknown option", mount(destination="/vol", type="tmpfs", source="x", options=["frob"]), "/mounts/7/options/0", ""),
    ("options as text", mount(destination="/vol", type="tmpfs", source="x", options="ro"), "/mounts/7/options", ""),
    ("destination /", mount(destination="/", type="tmpfs", source="x"), "/mounts/7/destination", ""),
    ("remount with data", mount(destination="/dev/shm", type="tmpfs", source="shm", options=["remount", "size=5m"]),
     "/mounts/7/options/1", ""),
    ("remount of the superblock", mount(destination="/dev/shm", type="tmpfs", source="shm", options=["remount", "sync"]),
     "/mounts/7/options/1", ""),
    ("cgroup with data", mount(destination="/vol", type="cgroup", source="cgroup", options=["frob"]), "/mounts/7/options/0", ""),
    ("bind with data", mount(destination="/vol", type="bind", source="/tmp", options=["bind", "size=5"]), "/mounts/7/options/1", ""),
    ("uidMappings only", mount(destination="/vol", type="bind", source="/tmp", options=["bind"], uidMappings=maps((0, 1, 1))),
     "/mounts/7", ""),
    *rows("mounts", "/mounts", {}, "x", [5]),
    # namespaces
    ("unknown namespace", put("/linux/namespaces/-", {"type": "frob"}), "/linux/namespaces/5/type", ""),
    ("namespace twice", put("/linux/namespaces/-", {"type": "pid"}), "/linux/namespaces/5", ""),
    ("namespace path missing", put("/linux/namespaces/1/path", "/no/where"), "/linux/namespaces/1/path", ""),
    ("namespace path relative", put("/linux/namespaces/1/path", "ns/net"), "/linux/namespaces/1/path", ""),
    ("namespace path of another type", put("/linux/namespaces/1/path", "/proc/self/ns/uts"), "/linux/namespaces/1/path", ""),
    ("namespace path a file", put("/linux/namespaces/1/path", "/etc/passwd"), "/linux/namespaces/1/path", ""),
    *rows("namespaces", "/linux/namespaces", {}, "pid", [5]),
    # id maps
    ("user namespace without maps", lambda s: namespace(s, "user"), "/linux/uidMappings", ""),
    ("maps without a user namespace", put_all(put("/linux/uidMappings", GOOD_MAP), put("/linux/gidMappings", GOOD_MAP)),
     "/linux/uidMappings", ""),
    ("maps overlap", with_maps(maps((0, 100000, 10), (5, 200000, 10)), GOOD_MAP), "/linux/uidMappings/1", ""),
    ("maps of size 0", with_maps(maps((0, 100000, 0)), GOOD_MAP), "/linux/uidMappings/0/size", ""),
    ("341 lines of maps", with_maps(maps(*((n, 1000 + 2 * n, 1) for n in range(341))), GOOD_MAP), "/linux/uidMappings", ""),
    ("maps as text", with_maps([{"containerID": "0", "hostID": 1, "size": 1}], GOOD_MAP), "/linux/uidMappings/0/containerID", ""),
    ("negative map", with_maps(maps((0, -1, 1)), GOOD_MAP), "/linux/uidMappings/0/hostID", ""),
    # masks and the rest of linux
    ("masked paths without mount namespace", lambda s: drop_namespace(s, "mount"), "/linux/", ""),
    ("relative masked path", put("/linux/maskedPaths/-", "proc/x"), "/linux/maskedPaths/10", ""),
    ("relative read-only path", put("/linux/readonlyPaths/-", "proc/x"), "/linux/readonlyPaths/5", ""),
    *rows("rootfsPropagation", "/linux/rootfsPropagation", "frob", 5),
    ("time offsets without namespace", put("/linux/timeOffsets", {"boottime": {"secs": 5}}), "/linux/timeOffsets", ""),
    ("intelRdt without resctrl", put("/linux/intelRdt", {"closID": "x", "l3CacheSchema": "L3:0=f"}), "/linux/intelRdt", ""),
    ("linux a list", put("/linux", []), "/linux", ""),
    # devices
    ("device of a bad type", put("/linux/devices", [{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}]), "/linux/devices/0/type", ""),
    ("device without a path", put("/linux/devices", [{"type": "c", "major": 1, "minor": 3}]), "/linux/devices/0/path", ""),
    ("device with a relative path", put("/linux/devices", [{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]),
     "/linux/devices/0/path", ""),
    ("device where a file is", put("/linux/devices", [{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 3}]),
     "/linux/devices/0", ""),
    ("device access xyz", put("/linux/resources/devices/-", {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "xyz"}),
     "/linux/resources/devices/1/access", ""),
    ("device rule of a bad type", put("/linux/resources/devices/-", {"allow": True, "type": "z", "access": "r"}),
     "/linux/resources/devices/1/type", ""),
    # sysctl
    *[(f"sysctl {key}", put("/linux/sysctl", {key: value}), "/linux/sysctl/" + key.replace("/", "~1"), "")
      for key, value in (("vm.swappiness", now("vm/swappiness")), ("kernel.core_pattern", now("kernel/core_pattern")),
                         ("net.../../kernel.x", "1"), ("net.ipv4.frob", "1"), ("net.ipv4.ip_forward", 1), ("", "1"))],
    # cgroups
    ("cgroupsPath with NUL", put("/linux/cgroupsPath", "/a\0b"), "/linux/cgroupsPath", ""),
    ("cgroupsPath of 5000 bytes", put("/linux/cgroupsPath", "/" + "x" * 5000), "/linux/cgroupsPath", ""),
    *rows("cgroupsPath", "/linux/cgroupsPath", 5),
    *rows("memory limit", "/linux/resources/memory/limit", -5, 1e30, "1g", True, 1),
    ("cpu quota 1", put("/linux/resources/cpu", {"quota": 1, "period": 100000}), "/linux/resources/cpu/quota", ""),
    *rows("cpus", "/linux/resources/cpu/cpus", "zz", "0-", "4000", 5),
    ("burst > quota", put("/linux/resources/cpu", {"quota": 20000, "period": 100000, "burst": 30000}), "/linux/resources/cpu/burst", ""),
    *rows("pids limit", "/linux/resources/pids/limit", "many", 1.5),
    ("unknown huge page size", put("/linux/resources/hugepageLimits", [{"pageSize": "3KB", "limit": 1}]),
     "/linux/resources/hugepageLimits/0", ""),
    *[(f"unified {key}", put("/linux/resources/unified", {key: "1"}), "/linux/resources/unified/" + key.replace("/", "~1"), "")
      for key in ("a/b", "../memory.max", "..", "frob.max")],
    # seccomp
    ("seccomp a list", put("/linux/seccomp", []), "/linux/seccomp", ""),
    *[(f"seccomp {name}", put("/linux/seccomp", {"defaultAction": "SCMP_ACT_ALLOW", **more}), f"/linux/seccomp/{at}", "")
      for name, more, at in (
          ("unknown default", {"defaultAction": "SCMP_ACT_FROB"}, "defaultAction"),
          ("unknown architecture", {"architectures": ["SCMP_ARCH_FROB"]}, "architectures/0"),
          ("unknown action", {"syscalls": [{"names": ["chmod"], "action": "FROB"}]}, "syscalls/0/action"),
          ("no names", {"syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}, "syscalls/0/names"),
          ("argument 9", {"syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO",
                                        "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]}]}, "syscalls/0/args/0/index"),
          ("errno with kill", {"syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]}, "syscalls/0/errnoRet"),
          ("notify without a path", {"syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_NOTIFY"}]}, "listenerPath"),
      )],
    ("seccomp metadata without a listener", put("/linux/seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
     "/linux/seccomp/listenerMetadata", ""),
    ("seccomp socket absent", put("/linux/seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/where",
                                                     "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_NOTIFY"}]}), "/no/where", ""),
    # hooks
    ("hook with a relative path", put("/hooks", {"prestart": [{"path": "bin/true"}]}), "/hooks/prestart/0/path", ""),
    ("hook that is missing", put("/hooks", {"prestart": [{"path": "/no/where"}]}), "", "no such file or directory"),
    ("hook timeout 0", put("/hooks", {"prestart": [{"path": "/bin/true", "timeout": 0}]}), "/hooks/prestart/0/timeout", ""),
    ("hook timeout -1", put("/hooks", {"prestart": [{"path": "/bin/true", "timeout": -1}]}), "/hooks/prestart/0/timeout", ""),
    ("hooks no array", put("/hooks", {"prestart": {"path": "/bin/true"}}), "/hooks/prestart", ""),
    ("hooks a list", put("/hooks", []), "/hooks", ""),
]  # fmt: skip

GOOD = json.dumps(fresh_spec())
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000

# (name, document); what is wrong with the text itself
DOCUMENTS: dict[str, bytes] = {
    "empty": b"", "blank": b" \n", "brace": b"{", "list": b"[]", "null": b"null", "number": b"5", "text": b'"x"', "object": b"{}",
    "BOM": b"\xef\xbb\xbf" + GOOD.encode(), "trailing NUL": GOOD.encode() + b"\0", "trailing brace": GOOD.encode() + b"}",
    "trailing object": GOOD.encode() + b"{}", "trailing text": GOOD.encode() + b"x",
    "duplicate key": GOOD.replace('"cwd": "/"', '"cwd": "/", "cwd": "/tmp"').encode(),
    "duplicate top key": GOOD.replace('"hostname": "box"', '"hostname": "box", "hostname": "two"').encode(),
    "deep": DEEP.encode(), "deep list": b"[" * 100_000, "deep unknown": GOOD[:-1].encode() + b', "x": ' + DEEP.encode() + b"}",
    "NaN": GOOD[:-1].encode() + b', "x": NaN}', "Infinity": GOOD[:-1].encode() + b', "x": [-Infinity]}',
    "1e400": GOOD[:-1].encode() + b', "x": 1e400}', "bad UTF-8": GOOD.replace("box", "b\udcffx").encode("utf-8", "surrogateescape"),
    "single quotes": b"{'ociVersion': '1.0.2'}", "comment": GOOD.encode() + b"// end", "control in text": b'{"a": "\x01"}',
}  # fmt: skip

ACCEPTED: dict[str, Change] = {
    "unknown property": put("/frobnicate", {"x": [1, None]}),
    "unknown annotation": put("/annotations", {"frob.example/x": "y"}),
    "windows": put("/windows", {"layerFolders": ["C:\\x"]}),
    "solaris": put("/solaris", {"milestone": "x"}),
    "unknown field of linux": put("/linux/frob", 1),
    "unknown capability": put("/process/capabilities/bounding/-", "CAP_FROB"),
    "missing cwd directory": put_all(put("/process/cwd", "/made"), put("/root/readonly", False)),
    "unknown system call": put(
        "/linux/seccomp",
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["frobnicate"], "action": "SCMP_ACT_ERRNO"}]},
    ),
    "devices null": put("/linux/devices", []),
    "no hooks": put("/hooks", {}),
    "resources empty": put("/linux/resources", {}),
    "version 1.0.0": put("/ociVersion", "1.0.0"),
    "version 1.0.2-dev": put("/ociVersion", "1.0.2-dev"),
    "version 1.2.1": put("/ociVersion", "1.2.1"),
    "version 1.3.0": put("/ociVersion", "1.3.0"),
    "version 1.99.0-rc.1+x": put("/ociVersion", "1.99.0-rc.1+x"),
}
