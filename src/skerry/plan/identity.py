"""Who the program is: ids, groups, capabilities, limits, umask, keyring.

Runs in: create, exec (hot); pure.   Imports: linux.abi, linux.caps, plan.
Source:  capabilities(7), credentials(7), setgroups(2), runtime-spec config.md "User", "Linux Process".
Never:   looks a name up: users and groups are numbers (CVE-2016-3697).
"""

from errno import EINVAL, ENOSYS, EPERM
from struct import pack

from skerry.linux import abi
from skerry.linux.caps import CAPS
from skerry.plan.begin import limit_value
from skerry.plan.build import Plan
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_UMASK = 0o022
_NO_GRANT = "the host grants skerry fewer capabilities than the spec asks for"
# What a new session keyring has (possessor all; user view, read, link), plus search for the user
_KEYRING_PERMISSIONS = 0x3F1B0000


def join_keyring(p: Plan, r: Request) -> None:
    """A session keyring of its own: the host's keys are gone before foreign code runs."""
    if not r.new_keyring:
        return
    p.step("join a new session keyring")
    absent = p.mark()
    key = p.result(
        "keyctl", abi.KEYCTL_JOIN_SESSION_KEYRING, f"_ses.{r.id}", jump=(ENOSYS,), to=absent
    )
    p.call("keyctl", abi.KEYCTL_SETPERM, key, _KEYRING_PERMISSIONS)
    p.place(absent)


def become_root(p: Plan) -> None:
    """In a user namespace just joined or made, whose maps are written."""
    hints = {EINVAL: "the user namespace must map container id 0"}
    p.step("become root of the user namespace", "/linux/uidMappings", hints)
    p.call("setresgid", 0, 0, 0)
    p.call("setgroups", 0, 0, ignore=(EPERM,))  # a joined namespace may have setgroups denied
    p.call("setresuid", 0, 0, 0)


def set_limits(p: Plan, r: Request) -> None:
    for index, entry in enumerate(r.process.get("rlimits") or ()):  # type: ignore[union-attr]
        p.step(f"set {entry['type']}", f"{r.pointer}/rlimits/{index}")
        values = [limit_value(entry["soft"]), limit_value(entry["hard"])]
        p.call("prlimit64", 0, abi.RLIMITS[entry["type"]], p.words(values), 0)


def set_no_new_privs(p: Plan, r: Request) -> None:
    if r.process.get("noNewPrivileges"):  # type: ignore[union-attr]
        p.step("set no_new_privs", f"{r.pointer}/noNewPrivileges")
        p.call("prctl", abi.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def own_stdio(p: Plan, r: Request) -> None:
    """Pipes, fifos, sockets and terminals on fds 0-2 go to the user (docs/decisions: stdio's owner)."""
    uid = _user(r).get("uid", 0)
    p.step("give standard input and output to the user", f"{r.pointer}/user/uid")
    for fd in r.stdio_owner:
        p.call("fchown", fd, uid, -1 & 0xFFFFFFFF, ignore=(EPERM, EINVAL, 30))  # 30: EROFS


def drop_bounding(p: Plan, r: Request) -> None:
    """First of the capability steps: it needs CAP_SETPCAP, which the user switch takes away."""
    p.step("drop capabilities from the bounding set", f"{r.pointer}/capabilities/bounding")
    keep = _mask(r, "bounding")
    for number in range(r.last_cap + 1):
        if not keep >> number & 1:
            p.call("prctl", abi.PR_CAPBSET_DROP, number, 0, 0, 0)


def switch_user(p: Plan, r: Request) -> None:
    """Groups, gid, uid; capabilities survive until `set_capabilities`.

    setgroups always, also to the empty list: the caller's groups must not come along.
    """
    user = _user(r)
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    groups = user.get("additionalGids") or []
    unmapped = {EINVAL: "the id is not mapped in the user namespace"}
    p.step("keep the capabilities over the change of user")
    p.call("prctl", abi.PR_SET_KEEPCAPS, 1, 0, 0, 0)
    p.step("set the additional groups", f"{r.pointer}/user/additionalGids", unmapped)
    array = p.blob(pack(f"<{len(groups)}I", *groups)) if groups else 0
    p.call("setgroups", len(groups), array)
    p.step(f"become gid {gid}", f"{r.pointer}/user/gid", unmapped)
    p.call("setresgid", gid, gid, gid)
    p.step(f"become uid {uid}", f"{r.pointer}/user/uid", unmapped)
    p.call("setresuid", uid, uid, uid)


def set_umask(p: Plan, r: Request) -> None:
    p.step("set the umask", f"{r.pointer}/user/umask")
    p.call("umask", _user(r).get("umask", DEFAULT_UMASK))


def set_capabilities(p: Plan, r: Request) -> None:
    p.step("set the capabilities", f"{r.pointer}/capabilities", {EPERM: _NO_GRANT})
    sets = [_mask(r, name) for name in ("effective", "permitted", "inheritable")]
    low = [value & 0xFFFFFFFF for value in sets]
    high = [value >> 32 for value in sets]
    header = p.blob(pack("<Ii", abi.LINUX_CAPABILITY_VERSION_3, 0))
    p.call("capset", header, p.blob(pack("<6I", *low, *high)))
    # The kernel raises only what is inheritable and permitted. Default specs ask for more, and runc goes on without it.
    p.step("set the ambient capabilities", f"{r.pointer}/capabilities/ambient")
    p.call("prctl", abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    ambient = _mask(r, "ambient")
    for number in range(r.last_cap + 1):
        if ambient >> number & 1:
            p.call(
                "prctl", abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_RAISE, number, 0, 0, ignore=(EPERM,)
            )


def _user(r: Request) -> "dict[str, Any]":
    return r.process.get("user") or {}  # type: ignore[union-attr]


def _mask(r: Request, name: str) -> int:
    """The set as bits, without what the kernel does not know (the validator has warned)."""
    mask = 0
    for cap in (r.process.get("capabilities") or {}).get(name) or ():  # type: ignore[union-attr]
        number = CAPS.get(cap, 64)
        if number <= r.last_cap:
            mask |= 1 << number
    return mask
