"""The messages that the tests use, as protobuf classes: of the kubelet's CRI, and of containerd's tasks.

Source: k8s.io/cri-api, package runtime.v1, and containerd's api/services/tasks/v1: names, numbers
        and types of the fields. Enumerations are written as int32, which is the same on the wire.

A line of the table is `Message: number name type, ...`; `*type` is repeated, `map` is of strings.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

CRI = "runtime.v1"
TASKS = "containerd.services.tasks.v1"
TABLES = {}
TABLES[TASKS] = """
CreateTaskRequest: 1 container_id string
CreateTaskResponse: 1 container_id string, 2 pid uint32
"""
TABLES[CRI] = """
VersionRequest: 1 version string
VersionResponse: 1 version string, 2 runtime_name string, 3 runtime_version string, 4 runtime_api_version string
StatusRequest: 1 verbose bool
RuntimeCondition: 1 type string, 2 status bool, 3 reason string, 4 message string
RuntimeStatus: 1 conditions *RuntimeCondition
StatusResponse: 1 status RuntimeStatus, 2 info map

DNSConfig: 1 servers *string, 2 searches *string, 3 options *string
PortMapping: 1 protocol int32, 2 container_port int32, 3 host_port int32, 4 host_ip string
NamespaceOption: 1 network int32, 2 pid int32, 3 ipc int32, 4 target_id string
Int64Value: 1 value int64
UInt64Value: 1 value uint64
SecurityProfile: 1 profile_type int32, 2 localhost_ref string
LinuxSandboxSecurityContext: 1 namespace_options NamespaceOption, 3 run_as_user Int64Value, 4 readonly_rootfs bool, 6 privileged bool, 9 seccomp SecurityProfile
LinuxPodSandboxConfig: 1 cgroup_parent string, 2 security_context LinuxSandboxSecurityContext, 3 sysctls map
PodSandboxMetadata: 1 name string, 2 uid string, 3 namespace string, 4 attempt uint32
PodSandboxConfig: 1 metadata PodSandboxMetadata, 2 hostname string, 3 log_directory string, 4 dns_config DNSConfig, 5 port_mappings *PortMapping, 6 labels map, 7 annotations map, 8 linux LinuxPodSandboxConfig
RunPodSandboxRequest: 1 config PodSandboxConfig, 2 runtime_handler string
RunPodSandboxResponse: 1 pod_sandbox_id string
StopPodSandboxRequest: 1 pod_sandbox_id string
StopPodSandboxResponse:
RemovePodSandboxRequest: 1 pod_sandbox_id string
RemovePodSandboxResponse:
PodSandboxStatusRequest: 1 pod_sandbox_id string, 2 verbose bool
PodSandboxNetworkStatus: 1 ip string
PodSandboxStatus: 1 id string, 2 metadata PodSandboxMetadata, 3 state int32, 4 created_at int64, 5 network PodSandboxNetworkStatus, 7 labels map, 8 annotations map, 9 runtime_handler string
PodSandboxStatusResponse: 1 status PodSandboxStatus, 2 info map
ListPodSandboxRequest:
PodSandbox: 1 id string, 2 metadata PodSandboxMetadata, 3 state int32, 4 created_at int64, 5 labels map, 6 annotations map, 7 runtime_handler string
ListPodSandboxResponse: 1 items *PodSandbox

ImageSpec: 1 image string, 2 annotations map
KeyValue: 1 key string, 2 value string
Mount: 1 container_path string, 2 host_path string, 3 readonly bool, 4 selinux_relabel bool, 5 propagation int32
Device: 1 container_path string, 2 host_path string, 3 permissions string
Capability: 1 add_capabilities *string, 2 drop_capabilities *string, 3 ambient_capabilities *string
LinuxContainerResources: 1 cpu_period int64, 2 cpu_quota int64, 3 cpu_shares int64, 4 memory_limit_in_bytes int64, 5 oom_score_adj int64, 6 cpuset_cpus string, 7 cpuset_mems string, 9 unified map, 10 memory_swap_limit_in_bytes int64
LinuxContainerSecurityContext: 1 capabilities Capability, 2 privileged bool, 3 namespace_options NamespaceOption, 5 run_as_user Int64Value, 6 run_as_username string, 7 readonly_rootfs bool, 8 supplemental_groups *int64, 11 no_new_privs bool, 12 run_as_group Int64Value, 13 masked_paths *string, 14 readonly_paths *string, 15 seccomp SecurityProfile
LinuxContainerConfig: 1 resources LinuxContainerResources, 2 security_context LinuxContainerSecurityContext
ContainerMetadata: 1 name string, 2 attempt uint32
ContainerConfig: 1 metadata ContainerMetadata, 2 image ImageSpec, 3 command *string, 4 args *string, 5 working_dir string, 6 envs *KeyValue, 7 mounts *Mount, 8 devices *Device, 9 labels map, 10 annotations map, 11 log_path string, 12 stdin bool, 13 stdin_once bool, 14 tty bool, 15 linux LinuxContainerConfig
CreateContainerRequest: 1 pod_sandbox_id string, 2 config ContainerConfig, 3 sandbox_config PodSandboxConfig
CreateContainerResponse: 1 container_id string
StartContainerRequest: 1 container_id string
StartContainerResponse:
StopContainerRequest: 1 container_id string, 2 timeout int64
StopContainerResponse:
RemoveContainerRequest: 1 container_id string
RemoveContainerResponse:
ContainerFilter: 1 id string, 3 pod_sandbox_id string
ListContainersRequest: 1 filter ContainerFilter
Container: 1 id string, 2 pod_sandbox_id string, 3 metadata ContainerMetadata, 4 image ImageSpec, 5 image_ref string, 6 state int32, 7 created_at int64, 8 labels map, 9 annotations map
ListContainersResponse: 1 containers *Container
ContainerStatusRequest: 1 container_id string, 2 verbose bool
ContainerStatus: 1 id string, 2 metadata ContainerMetadata, 3 state int32, 4 created_at int64, 5 started_at int64, 6 finished_at int64, 7 exit_code int32, 8 image ImageSpec, 9 image_ref string, 10 reason string, 11 message string, 12 labels map, 13 annotations map, 14 mounts *Mount, 15 log_path string
ContainerStatusResponse: 1 status ContainerStatus, 2 info map
UpdateContainerResourcesRequest: 1 container_id string, 2 linux LinuxContainerResources
UpdateContainerResourcesResponse:
ReopenContainerLogRequest: 1 container_id string
ReopenContainerLogResponse:

ExecSyncRequest: 1 container_id string, 2 cmd *string, 3 timeout int64
ExecSyncResponse: 1 stdout bytes, 2 stderr bytes, 3 exit_code int32
ExecRequest: 1 container_id string, 2 cmd *string, 3 tty bool, 4 stdin bool, 5 stdout bool, 6 stderr bool
ExecResponse: 1 url string
AttachRequest: 1 container_id string, 2 stdin bool, 3 tty bool, 4 stdout bool, 5 stderr bool
AttachResponse: 1 url string
PortForwardRequest: 1 pod_sandbox_id string, 2 port *int32
PortForwardResponse: 1 url string

ContainerAttributes: 1 id string, 2 metadata ContainerMetadata, 3 labels map, 4 annotations map
CpuUsage: 1 timestamp int64, 2 usage_core_nano_seconds UInt64Value, 3 usage_nano_cores UInt64Value
MemoryUsage: 1 timestamp int64, 2 working_set_bytes UInt64Value, 3 available_bytes UInt64Value, 4 usage_bytes UInt64Value, 5 rss_bytes UInt64Value, 6 page_faults UInt64Value, 7 major_page_faults UInt64Value
ContainerStats: 1 attributes ContainerAttributes, 2 cpu CpuUsage, 3 memory MemoryUsage
ContainerStatsRequest: 1 container_id string
ContainerStatsResponse: 1 stats ContainerStats
PodSandboxStatsRequest: 1 pod_sandbox_id string
ProcessUsage: 1 timestamp int64, 2 process_count UInt64Value
LinuxPodSandboxStats: 1 cpu CpuUsage, 2 memory MemoryUsage, 4 process ProcessUsage, 5 containers *ContainerStats
PodSandboxStats: 2 linux LinuxPodSandboxStats
PodSandboxStatsResponse: 1 stats PodSandboxStats

ImageStatusRequest: 1 image ImageSpec
Image: 1 id string, 2 repo_tags *string, 3 repo_digests *string, 4 size uint64
ImageStatusResponse: 1 image Image
"""

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
    "bool": Field.TYPE_BOOL,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
}


def classes(package: str) -> dict[str, type]:
    """Give message name -> class."""
    file = descriptor_pb2.FileDescriptorProto(name=package, package=package, syntax="proto3")
    for line in TABLES[package].split("\n"):
        name, colon, fields = line.partition(":")
        if colon:
            message = file.message_type.add(name=name)
            for field in filter(None, fields.strip().split(", ")):
                add(file, message, *field.split(" "))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{package}.{message.name}")
        )
        for message in file.message_type
    }


def add(file, message, number: str, name: str, kind: str) -> None:
    """Add a field to a message of a file."""
    label = Field.LABEL_REPEATED if kind[0] == "*" or kind == "map" else Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=int(number), label=label)
    kind = kind.lstrip("*")
    if kind == "map":
        entry = name.title().replace("_", "") + "Entry"
        nested = message.nested_type.add(name=entry)
        nested.options.map_entry = True
        add(file, nested, "1", "key", "string")
        add(file, nested, "2", "value", "string")
        kind = f"{message.name}.{entry}"
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type, field.type_name = Field.TYPE_MESSAGE, f".{file.package}.{kind}"
