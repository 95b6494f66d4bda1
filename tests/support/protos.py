"""The messages as containerd's .proto files have them, and classes of the official library for them.

Written from the .proto files, not from our tables: a number that is wrong there is not wrong here too.
"""

import re

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TEXT = """
Any: string type_url=1; bytes value=2;
Timestamp: int64 seconds=1; int32 nanos=2;
KeyValue: string key=1; string value=2;
Empty:
Request: string service=1; string method=2; bytes payload=3; int64 timeout_nano=4; repeated KeyValue metadata=5;
Status: int32 code=1; string message=2;
Response: Status status=1; bytes payload=2;

Mount: string type=1; string source=2; string target=3; repeated string options=4;
CreateTaskRequest: string id=1; string bundle=2; repeated Mount rootfs=3; bool terminal=4; string stdin=5;
  string stdout=6; string stderr=7; string checkpoint=8; string parent_checkpoint=9; Any options=10;
CreateTaskResponse: uint32 pid=1;
DeleteRequest: string id=1; string exec_id=2;
DeleteResponse: uint32 pid=1; uint32 exit_status=2; Timestamp exited_at=3;
ExecProcessRequest: string id=1; string exec_id=2; bool terminal=3; string stdin=4; string stdout=5; string stderr=6;
  Any spec=7;
ResizePtyRequest: string id=1; string exec_id=2; uint32 width=3; uint32 height=4;
StateResponse: string id=1; string bundle=2; uint32 pid=3; int32 status=4; string stdin=5; string stdout=6;
  string stderr=7; bool terminal=8; uint32 exit_status=9; Timestamp exited_at=10; string exec_id=11;
KillRequest: string id=1; string exec_id=2; uint32 signal=3; bool all=4;
CloseIORequest: string id=1; string exec_id=2; bool stdin=3;
ProcessInfo: uint32 pid=1; Any info=2;
PidsResponse: repeated ProcessInfo processes=1;
ProcessDetails: string exec_id=1;
CheckpointTaskRequest: string id=1; string path=2; Any options=3;
UpdateTaskRequest: string id=1; Any resources=2; repeated KeyValue annotations=3;
WaitResponse: uint32 exit_status=1; Timestamp exited_at=2;
StatsRequest: string id=1;
StatsResponse: Any stats=1;
ConnectResponse: uint32 shim_pid=1; uint32 task_pid=2; string version=3;
ShutdownRequest: string id=1; bool now=2;

Extension: Any value=1;
BootstrapParams: string instance_id=1; string namespace=2; int32 log_level=3; string containerd_version=4;
  string containerd_ttrpc_address=5; string containerd_grpc_address=6; string containerd_binary=7;
  repeated Extension extensions=8; string socket_dir=9;
BootstrapResult: int32 version=1; string address=2; string protocol=3;
RuntimeVersion: string version=1; string revision=2;
RuntimeInfo: string name=1; RuntimeVersion version=2; Any options=3; Any features=4; repeated KeyValue annotations=5;

RuncOptions: bool no_pivot_root=1; bool no_new_keyring=2; string shim_cgroup=3; uint32 io_uid=4; uint32 io_gid=5;
  string binary_name=6; string root=7; bool systemd_cgroup=9; string criu_image_path=10; string criu_work_path=11;
  string task_api_address=12; uint32 task_api_version=13;
CreateOptions: bool no_pivot_root=1; bool open_tcp=2; bool external_unix_sockets=3; bool terminal=4; bool file_locks=5;
  repeated string empty_namespaces=6; string cgroups_mode=7; bool no_new_keyring=8; string shim_cgroup=9;
  uint32 io_uid=10; uint32 io_gid=11; string criu_work_path=12; string criu_image_path=13;
RuntimeOptions: string type_url=1; string config_path=2; bytes config_body=3;

Envelope: Timestamp timestamp=1; string namespace=2; string topic=3; Any event=4;
ForwardRequest: Envelope envelope=1;
TaskIO: string stdin=1; string stdout=2; string stderr=3; bool terminal=4;
TaskCreate: string container_id=1; string bundle=2; repeated Mount rootfs=3; TaskIO io=4; string checkpoint=5;
  uint32 pid=6;
TaskStart: string container_id=1; uint32 pid=2;
TaskDelete: string container_id=1; uint32 pid=2; uint32 exit_status=3; Timestamp exited_at=4; string id=5;
TaskExit: string container_id=1; string id=2; uint32 pid=3; uint32 exit_status=4; Timestamp exited_at=5;
TaskOOM: string container_id=1;
TaskExecAdded: string container_id=1; string exec_id=2;
TaskExecStarted: string container_id=1; string exec_id=2; uint32 pid=3;
TaskPaused: string container_id=1;
TaskResumed: string container_id=1;
TaskCheckpointed: string container_id=1; string checkpoint=2;

HugetlbStat: uint64 usage=1; uint64 max=2; uint64 failcnt=3; string pagesize=4;
PidsStat: uint64 current=1; uint64 limit=2;
CPUUsage: uint64 total=1; uint64 kernel=2; uint64 user=3; repeated uint64 per_cpu=4;
Throttle: uint64 periods=1; uint64 throttled_periods=2; uint64 throttled_time=3;
CPUStat: CPUUsage usage=1; Throttle throttling=2;
MemoryEntry: uint64 limit=1; uint64 usage=2; uint64 max=3; uint64 failcnt=4;
MemoryStat: uint64 cache=1; uint64 rss=2; uint64 rss_huge=3; uint64 mapped_file=4; uint64 dirty=5; uint64 writeback=6;
  uint64 pgpgin=7; uint64 pgpgout=8; uint64 pgfault=9; uint64 pgmajfault=10; uint64 inactive_anon=11;
  uint64 active_anon=12; uint64 inactive_file=13; uint64 active_file=14; uint64 unevictable=15;
  uint64 hierarchical_memory_limit=16; uint64 hierarchical_memsw_limit=17; uint64 total_cache=18; uint64 total_rss=19;
  uint64 total_rss_huge=20; uint64 total_mapped_file=21; uint64 total_dirty=22; uint64 total_writeback=23;
  uint64 total_pgpgin=24; uint64 total_pgpgout=25; uint64 total_pgfault=26; uint64 total_pgmajfault=27;
  uint64 total_inactive_anon=28; uint64 total_active_anon=29; uint64 total_inactive_file=30;
  uint64 total_active_file=31; uint64 total_unevictable=32; MemoryEntry usage=33; MemoryEntry swap=34;
  MemoryEntry kernel=35; MemoryEntry kernel_tcp=36;
BlkIOEntry: string op=1; string device=2; uint64 major=3; uint64 minor=4; uint64 value=5;
BlkIOStat: repeated BlkIOEntry io_service_bytes_recursive=1; repeated BlkIOEntry io_serviced_recursive=2;
  repeated BlkIOEntry io_queued_recursive=3; repeated BlkIOEntry io_service_time_recursive=4;
  repeated BlkIOEntry io_wait_time_recursive=5; repeated BlkIOEntry io_merged_recursive=6;
  repeated BlkIOEntry io_time_recursive=7; repeated BlkIOEntry sectors_recursive=8;
MemoryOomControl: uint64 oom_kill_disable=1; uint64 under_oom=2; uint64 oom_kill=3;
MetricsV1: repeated HugetlbStat hugetlb=1; PidsStat pids=2; CPUStat cpu=3; MemoryStat memory=4; BlkIOStat blkio=5;
  MemoryOomControl memory_oom_control=9;
CPUStat2: uint64 usage_usec=1; uint64 user_usec=2; uint64 system_usec=3; uint64 nr_periods=4; uint64 nr_throttled=5;
  uint64 throttled_usec=6;
MemoryStat2: uint64 anon=1; uint64 file=2; uint64 kernel_stack=3; uint64 slab=4; uint64 sock=5; uint64 shmem=6;
  uint64 file_mapped=7; uint64 file_dirty=8; uint64 file_writeback=9; uint64 anon_thp=10; uint64 inactive_anon=11;
  uint64 active_anon=12; uint64 inactive_file=13; uint64 active_file=14; uint64 unevictable=15;
  uint64 slab_reclaimable=16; uint64 slab_unreclaimable=17; uint64 pgfault=18; uint64 pgmajfault=19;
  uint64 workingset_refault=20; uint64 workingset_activate=21; uint64 workingset_nodereclaim=22; uint64 pgrefill=23;
  uint64 pgscan=24; uint64 pgsteal=25; uint64 pgactivate=26; uint64 pgdeactivate=27; uint64 pglazyfree=28;
  uint64 pglazyfreed=29; uint64 thp_fault_alloc=30; uint64 thp_collapse_alloc=31; uint64 usage=32;
  uint64 usage_limit=33; uint64 swap_usage=34; uint64 swap_limit=35; uint64 max_usage=36; uint64 swap_max_usage=37;
MemoryEvents: uint64 low=1; uint64 high=2; uint64 max=3; uint64 oom=4; uint64 oom_kill=5;
IOEntry: uint64 major=1; uint64 minor=2; uint64 rbytes=3; uint64 wbytes=4; uint64 rios=5; uint64 wios=6;
IOStat: repeated IOEntry usage=1;
HugeTlbStat2: uint64 current=1; uint64 max=2; string pagesize=3;
MetricsV2: PidsStat pids=1; CPUStat2 cpu=2; MemoryStat2 memory=4; IOStat io=6; repeated HugeTlbStat2 hugetlb=7;
  MemoryEvents memory_events=8;

Odd: bool flag=1; int32 small=2; int64 large=3; uint32 count=4; uint64 big=5; double ratio=6; string text=7; bytes raw=8;
  repeated uint64 numbers=9; repeated string words=10; repeated Inner inners=11; Inner inner=12; repeated double ratios=13;
Inner: int32 value=1; Inner next=2; repeated int32 values=3;
"""

_FIELD = re.compile(r"(repeated )?(\w+) (\w+)=(\d+);")
_KINDS = {
    name: getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "double", "string", "bytes")
}


def _classes() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(name="shim.proto", package="shim", syntax="proto3")
    for name, body in re.findall(r"^(\w+):((?:.*\n)(?:  .*\n)*)", TEXT, re.MULTILINE):
        message = file.message_type.add(name=name)
        for repeated, kind, field, number in _FIELD.findall(body):
            label = 3 if repeated else 1
            row = message.field.add(name=field, number=int(number), label=label)
            if kind in _KINDS:
                row.type = _KINDS[kind]
            else:
                row.type, row.type_name = 11, f".shim.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"shim.{message.name}"))
        for message in file.message_type
    }


CLASSES = _classes()
