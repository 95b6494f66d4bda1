"""The messages of containerd's runtime v2 protocol, as tables for protobuf.py.

Runs in: the task shim.   Imports: nothing.
Source:  containerd api/runtime/task/v2 and v3 (equal but for the package's name), api/events,
         api/services/ttrpc/events/v1, api/types, runtimeoptions/v1; containerd.runc.v1.Options; ttrpc;
         google.rpc.Status.
Never:   has a default of its own: an absent field is proto3's.

A row is (number, name, type); a type in a list is repeated, a table is a message.
"""

ANY = ((1, "type_url", "string"), (2, "value", "bytes"))
TIMESTAMP = ((1, "seconds", "int64"), (2, "nanos", "int32"))
KEY_VALUE = ((1, "key", "string"), (2, "value", "string"))
EMPTY = ()

# ttrpc
REQUEST = (
    (1, "service", "string"),
    (2, "method", "string"),
    (3, "payload", "bytes"),
    (4, "timeout_nano", "int64"),
    (5, "metadata", [KEY_VALUE]),
)
STATUS = ((1, "code", "int32"), (2, "message", "string"))
RESPONSE = ((1, "status", STATUS), (2, "payload", "bytes"))

# task
MOUNT = (
    (1, "type", "string"),
    (2, "source", "string"),
    (3, "target", "string"),
    (4, "options", ["string"]),
)
PROCESS_ID = ((1, "id", "string"), (2, "exec_id", "string"))
CONTAINER_ID = ((1, "id", "string"),)
CREATE = (
    (1, "id", "string"),
    (2, "bundle", "string"),
    (3, "rootfs", [MOUNT]),
    (4, "terminal", "bool"),
    (5, "stdin", "string"),
    (6, "stdout", "string"),
    (7, "stderr", "string"),
    (8, "checkpoint", "string"),
    (9, "parent_checkpoint", "string"),
    (10, "options", ANY),
)
PID = ((1, "pid", "uint32"),)
DELETED = ((1, "pid", "uint32"), (2, "exit_status", "uint32"), (3, "exited_at", TIMESTAMP))
EXEC = (
    (1, "id", "string"),
    (2, "exec_id", "string"),
    (3, "terminal", "bool"),
    (4, "stdin", "string"),
    (5, "stdout", "string"),
    (6, "stderr", "string"),
    (7, "spec", ANY),
)
STATE = (
    (1, "id", "string"),
    (2, "bundle", "string"),
    (3, "pid", "uint32"),
    (4, "status", "int32"),
    (5, "stdin", "string"),
    (6, "stdout", "string"),
    (7, "stderr", "string"),
    (8, "terminal", "bool"),
    (9, "exit_status", "uint32"),
    (10, "exited_at", TIMESTAMP),
    (11, "exec_id", "string"),
)
RESIZE = (
    (1, "id", "string"),
    (2, "exec_id", "string"),
    (3, "width", "uint32"),
    (4, "height", "uint32"),
)
KILL = ((1, "id", "string"), (2, "exec_id", "string"), (3, "signal", "uint32"), (4, "all", "bool"))
CLOSE_IO = ((1, "id", "string"), (2, "exec_id", "string"), (3, "stdin", "bool"))
PROCESS_INFO = ((1, "pid", "uint32"), (2, "info", ANY))
PIDS = ((1, "processes", [PROCESS_INFO]),)
PROCESS_DETAILS = ((1, "exec_id", "string"),)
CHECKPOINT = ((1, "id", "string"), (2, "path", "string"), (3, "options", ANY))
UPDATE = ((1, "id", "string"), (2, "resources", ANY), (3, "annotations", [KEY_VALUE]))
WAITED = ((1, "exit_status", "uint32"), (2, "exited_at", TIMESTAMP))
STATS = ((1, "stats", ANY),)
CONNECTED = ((1, "shim_pid", "uint32"), (2, "task_pid", "uint32"), (3, "version", "string"))
SHUTDOWN = ((1, "id", "string"), (2, "now", "bool"))

# the binary's standard input and output
BOOTSTRAP = (
    (1, "instance_id", "string"),
    (2, "namespace", "string"),
    (3, "log_level", "int32"),
    (4, "containerd_version", "string"),
    (5, "ttrpc_address", "string"),
    (6, "grpc_address", "string"),
    (7, "containerd_binary", "string"),
    (8, "extensions", [((1, "value", ANY),)]),
    (9, "socket_dir", "string"),
)
BOOTSTRAP_RESULT = ((1, "version", "int32"), (2, "address", "string"), (3, "protocol", "string"))
RUNTIME_INFO = (
    (1, "name", "string"),
    (2, "version", ((1, "version", "string"), (2, "revision", "string"))),
    (3, "options", ANY),
    (4, "features", ANY),
    (5, "annotations", [KEY_VALUE]),
)

# options
RUNC_OPTIONS = (
    (1, "no_pivot_root", "bool"),
    (2, "no_new_keyring", "bool"),
    (3, "shim_cgroup", "string"),
    (4, "io_uid", "uint32"),
    (5, "io_gid", "uint32"),
    (6, "binary_name", "string"),
    (7, "root", "string"),
    (9, "systemd_cgroup", "bool"),
    (10, "criu_image_path", "string"),
    (11, "criu_work_path", "string"),
    (12, "task_api_address", "string"),
    (13, "task_api_version", "uint32"),
)
# containerd.linux.runc.CreateOptions of version 1, which clients still send to runtimes whose name is not runc's
CREATE_OPTIONS = (
    (1, "no_pivot_root", "bool"),
    (8, "no_new_keyring", "bool"),
    (9, "shim_cgroup", "string"),
    (10, "io_uid", "uint32"),
    (11, "io_gid", "uint32"),
)
RUNTIME_OPTIONS = (
    (1, "type_url", "string"),
    (2, "config_path", "string"),
    (3, "config_body", "bytes"),
)

# events
ENVELOPE = (
    (1, "timestamp", TIMESTAMP),
    (2, "namespace", "string"),
    (3, "topic", "string"),
    (4, "event", ANY),
)
FORWARD = ((1, "envelope", ENVELOPE),)
TASK_IO = (
    (1, "stdin", "string"),
    (2, "stdout", "string"),
    (3, "stderr", "string"),
    (4, "terminal", "bool"),
)
TASK_ID = ((1, "container_id", "string"),)
# topic -> (message's name, table)
EVENTS = {
    "/tasks/create": (
        "TaskCreate",
        (
            (1, "container_id", "string"),
            (2, "bundle", "string"),
            (3, "rootfs", [MOUNT]),
            (4, "io", TASK_IO),
            (5, "checkpoint", "string"),
            (6, "pid", "uint32"),
        ),
    ),
    "/tasks/start": ("TaskStart", ((1, "container_id", "string"), (2, "pid", "uint32"))),
    "/tasks/exec-added": (
        "TaskExecAdded",
        ((1, "container_id", "string"), (2, "exec_id", "string")),
    ),
    "/tasks/exec-started": (
        "TaskExecStarted",
        ((1, "container_id", "string"), (2, "exec_id", "string"), (3, "pid", "uint32")),
    ),
    "/tasks/exit": (
        "TaskExit",
        (
            (1, "container_id", "string"),
            (2, "id", "string"),
            (3, "pid", "uint32"),
            (4, "exit_status", "uint32"),
            (5, "exited_at", TIMESTAMP),
        ),
    ),
    "/tasks/delete": (
        "TaskDelete",
        (
            (1, "container_id", "string"),
            (2, "pid", "uint32"),
            (3, "exit_status", "uint32"),
            (4, "exited_at", TIMESTAMP),
        ),
    ),
    "/tasks/oom": ("TaskOOM", TASK_ID),
    "/tasks/paused": ("TaskPaused", TASK_ID),
    "/tasks/resumed": ("TaskResumed", TASK_ID),
    "/tasks/checkpointed": (
        "TaskCheckpointed",
        ((1, "container_id", "string"), (2, "checkpoint", "string")),
    ),
}
