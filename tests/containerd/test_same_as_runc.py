"""The same pod on runc and on the handler under test: what the program inside sees is the same."""

import re
from difflib import unified_diff

import pytest
from cri_client import NODE, POD, RUNTIME_DEFAULT

HANDLERS = ("skerry-binary", "skerry")
# What a program can see of what the runtime did, under titles.
LOOK = r"""
exec 2>&1
section() { echo "== $1"; }
section who; id; umask; pwd; hostname
section status; grep -E '^(Uid|Gid|Groups|SigBlk|Cap|NoNewPrivs|Seccomp:|Cpus_allowed_list|Mems_allowed_list)' /proc/self/status
section leader; for n in 5 6; do [ $(cut -d ' ' -f $n /proc/$$/stat) = $$ ]; echo $?; done
section ignored; printf '%x\n' $((0x$(grep SigIgn /proc/self/status | cut -f 2) & 0x7fffffff))
section init; tr '\0' ' ' < /proc/1/cmdline; echo
section environment; env | sort | grep -v -E '^(SHLVL|_)='
section limits; cat /proc/self/limits
section scores; cat /proc/self/oom_score_adj /proc/self/personality
section maps; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
section cgroups; cat /proc/self/cgroup
section mounts; cut -d ' ' -f 4- /proc/self/mountinfo | sort
section devices; ls -ln /dev | tr -s ' ' | cut -d ' ' -f 1-6,10-
section shm; ls -ldn /dev/shm /dev/mqueue /dev/pts /proc /sys / /tmp | tr -s ' ' | cut -d ' ' -f 1,3,4,9
section masked; for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /sys/firmware; do head -c 1 $f | wc -c; done
section sysctl; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range
section descriptors; ls /proc/self/fd
section interfaces; ip -o link | cut -d ' ' -f 2 | cut -d @ -f 1
section namespaces; for n in cgroup ipc mnt net pid user uts; do [ /proc/1/ns/$n -ef /proc/self/ns/$n ] && echo $n; done
section resolver; cat /etc/resolv.conf /etc/hosts
section denied; for f in /new /proc/sys/kernel/hostname /sys/new /dev/new /etc/resolv.conf; do (: >> $f) 2>&1 | sed 's/.*: //'; done
section end
"""


def security(**context: object) -> dict:
    return {"linux": {"security_context": context}}


HOST = {"namespace_options": {"network": NODE, "pid": NODE, "ipc": NODE}}
# name -> (options of the pod, options of the container)
CASES = {
    "default": ({}, {}),
    "privileged": (security(privileged=True), security(privileged=True)),
    "user": (
        {},
        security(
            run_as_user={"value": 1000},
            run_as_group={"value": 1000},
            supplemental_groups=[2000],
            readonly_rootfs=True,
            no_new_privs=True,
        ),
    ),
    "host": (security(**HOST) | {"hostname": ""}, security(**HOST)),
    "shared": (
        security(namespace_options={"pid": POD}),
        security(namespace_options={"pid": POD}),
    ),
    "seccomp": (
        security(seccomp={"profile_type": RUNTIME_DEFAULT}),
        security(
            seccomp={"profile_type": RUNTIME_DEFAULT},
            capabilities={"add_capabilities": ["NET_ADMIN"], "drop_capabilities": ["CHOWN"]},
        ),
    ),
    "limits": (
        {"linux": {"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}}},
        {
            "linux": {
                "resources": {
                    "cpu_quota": 50000,
                    "cpu_period": 100000,
                    "cpu_shares": 512,
                    "memory_limit_in_bytes": 128 << 20,
                    "oom_score_adj": 500,
                    "cpuset_cpus": "0",
                }
            },
            "working_dir": "/made/on/the/way",
            "envs": [{"key": "HOME", "value": "/tmp"}, {"key": "EMPTY", "value": ""}],
        },
    ),
    "terminal": ({}, {"tty": True, "stdin": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_same_sight(cri, handler, case):
    reference, found = (sights(cri, name, *CASES[case]) for name in ("runc", handler))
    for process in reference:
        difference = "\n".join(
            unified_diff(reference[process], found[process], "runc", handler, lineterm="")
        )
        assert not difference, f"{process}:\n{difference}"


def sights(cri, handler: str, of_pod: dict, of_container: dict) -> dict[str, list[str]]:
    """What init and an exec see, without what differs between any two containers."""
    pod = cri.pod(handler, **of_pod)
    container = pod.container("sh", "-c", f"{LOOK}exec sleep 1000", **of_container).start()
    container.until_logged("== end")
    seen = {"init": container.lines(), "exec": container.out("sh", "-c", LOOK).splitlines()}
    names = {container.id: "CONTAINER", pod.id: "POD", pod.config["metadata"]["name"]: "NAME"}
    seen = {process: [plain(line, names) for line in lines] for process, lines in seen.items()}
    pod.remove()
    return seen


def plain(line: str, names: dict[str, str]) -> str:
    # The spec asks for a read-only mount; of the tmpfs that holds the hierarchies runc makes a writable one.
    line = re.sub(r"^(/ /sys/fs/cgroup) r[ow](,.* - tmpfs )", r"\1 ro\2", line)
    for name, word in names.items():
        line = line.replace(name, word)
    line = re.sub(r"snapshots/\d+|lowerdir=\S+", "LAYERS", line.rstrip("\r"))
    line = re.sub(r"10\.213\.\d+\.\d+", "ADDRESS", line)
    return re.sub(r"(shared|master):\d+", r"\1", line)
