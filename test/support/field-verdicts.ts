/**
 * What becomes of every field that a request of RuntimeService can hold: a test
 * that shows its meaning, or a refusal that can be sent. test/unit/cri/fields.test.ts
 * walks cri-v1.tsv and finds the fields that are missing here, tests that are not
 * there, and refusals that do not come. RPCs that are not built are refused as a whole.
 */
export type Verdict =
  | { tests: readonly (readonly [file: string, title: string])[] }
  | { refused: readonly Refusal[] }
  /** Says something about that field only, whose tests or refusal it shares. */
  | { partOf: string };

/** A request with the field, and what is answered. */
export interface Refusal {
  rpc: string;
  request: (ids: { podSandboxId: string; containerId: string }) => object;
  code: 'UNIMPLEMENTED' | 'INVALID_ARGUMENT' | 'FAILED_PRECONDITION';
  says: RegExp;
}

const test = (file: string, ...titles: string[]): Verdict => ({ tests: titles.map(title => [file, title] as const) });
const partOf = (field: string): Verdict => ({ partOf: field });

const metadata = { name: 'name', uid: 'uid', namespace: 'namespace', attempt: 0 };

const pod = (config: object, says: RegExp, code: Refusal['code'] = 'UNIMPLEMENTED'): Refusal => ({
  rpc: 'RunPodSandbox',
  request: () => ({ config: { metadata, ...config } }),
  code,
  says,
});

const container = (config: object, says: RegExp, code: Refusal['code'] = 'UNIMPLEMENTED'): Refusal => ({
  rpc: 'CreateContainer',
  request: ({ podSandboxId }) => ({
    podSandboxId,
    config: { metadata: { name: 'container', attempt: 0 }, image: { image: 'image' }, ...config },
  }),
  code,
  says,
});

const refused = (...refusals: Refusal[]): Verdict => ({ refused: refusals });

const LIFECYCLE = 'cri/lifecycle.test.ts';
const EVENTS = 'cri/events.test.ts';
const LIFE = 'cri/life.test.ts';
const API = 'cri/api.test.ts';
const ENVIRONMENT = 'cri/environment.test.ts';
const IDENTITY = 'cri/identity.test.ts';
const NAMESPACES = 'cri/namespaces.test.ts';
const MOUNTS = 'cri/mounts.test.ts';
const NETWORK = 'cri/network.test.ts';
const VOLUMES = 'cri/volumes.test.ts';
const SECCOMP = 'cri/seccomp.test.ts';
const DEVICES = 'cri/devices.test.ts';
const RESOURCES = 'cri/resources.test.ts';
const UPDATE = 'cri/update.test.ts';
const USERNS = 'cri/user-namespaces.test.ts';
const EXEC = 'cri/exec.test.ts';
const ATTACH = 'cri/attach.test.ts';
const FORWARD = 'cri/port-forward.test.ts';
const MODULES = 'cri/security-modules.test.ts';
const POD = 'cri/pod-security.test.ts';
const STATS = 'cri/stats.test.ts';

/** By message and field, in the CRI's words. */
export const fieldVerdicts: Readonly<Record<string, Verdict>> = {
  'VersionRequest.version': test(API, 'name the runtime, its readiness and its cgroup driver'),
  'StatusRequest.verbose': test(API, 'tell more when asked, as JSON'),

  /* ---- pods ---- */
  'RunPodSandboxRequest.config': test(
    LIFECYCLE,
    'goes from pull to removal, with the state, times and exit code of each step',
  ),
  'RunPodSandboxRequest.runtime_handler': test(
    'cri/runtimes.test.ts',
    'were made by it, and are told of with their handler',
  ),
  'PodSandboxConfig.metadata': test(
    LIFECYCLE,
    'returns the same id for the same metadata, at once, repeated and concurrently',
  ),
  'PodSandboxConfig.hostname': test(ENVIRONMENT, 'has the pod’s hostname, hosts and resolv.conf'),
  'PodSandboxConfig.log_directory': test(
    LIFECYCLE,
    'writes the log in CRI format: both streams, empty lines, a part for a last line without newline',
  ),
  'PodSandboxConfig.dns_config': test(ENVIRONMENT, 'has the pod’s hostname, hosts and resolv.conf'),
  'PodSandboxConfig.port_mappings': test(
    NETWORK,
    'gives a pod an address, on which others reach it, also by the node’s port, and gives it back',
    'hears who the pod is, what it may have by its capabilities, and the results of those before it',
  ),
  'PodSandboxConfig.labels': test(API, 'return labels and annotations as they came, also after a restart'),
  'PodSandboxConfig.annotations': test(API, 'return labels and annotations as they came, also after a restart'),
  'PodSandboxConfig.linux': partOf('LinuxPodSandboxConfig.cgroup_parent'),
  'PodSandboxConfig.windows': refused(pod({ windows: {} }, /windows/)),
  'PodSandboxMetadata.name': partOf('PodSandboxConfig.metadata'),
  'PodSandboxMetadata.uid': partOf('PodSandboxConfig.metadata'),
  'PodSandboxMetadata.namespace': partOf('PodSandboxConfig.metadata'),
  'PodSandboxMetadata.attempt': partOf('PodSandboxConfig.metadata'),
  'DNSConfig.servers': partOf('PodSandboxConfig.dns_config'),
  'DNSConfig.searches': partOf('PodSandboxConfig.dns_config'),
  'DNSConfig.options': partOf('PodSandboxConfig.dns_config'),
  'PortMapping.protocol': partOf('PodSandboxConfig.port_mappings'),
  'PortMapping.container_port': partOf('PodSandboxConfig.port_mappings'),
  'PortMapping.host_port': partOf('PodSandboxConfig.port_mappings'),
  'PortMapping.host_ip': partOf('PodSandboxConfig.port_mappings'),
  'LinuxPodSandboxConfig.cgroup_parent': test(ENVIRONMENT, 'has its limits'),
  'LinuxPodSandboxConfig.security_context': partOf('LinuxSandboxSecurityContext.namespace_options'),
  'LinuxPodSandboxConfig.sysctls': test(
    'cri/identity-duties.test.ts',
    'sets safe and unsafe sysctls of the pod, for all of its containers and for nobody else',
  ),
  'LinuxPodSandboxConfig.overhead': test(
    RESOURCES,
    'are those of its containers and its overhead, where berth makes the cgroup',
  ),
  'LinuxPodSandboxConfig.resources': test(
    RESOURCES,
    'are those of its containers and its overhead, where berth makes the cgroup',
  ),
  'LinuxSandboxSecurityContext.namespace_options': test(
    NAMESPACES,
    'are its own, its pod’s or the host’s by the mode of each, and mount and cgroup are always its own',
  ),
  // A pod of berth has no process of its own that these could be for.
  ...Object.fromEntries(
    [
      'selinux_options',
      'run_as_user',
      'run_as_group',
      'readonly_rootfs',
      'supplemental_groups',
      'supplemental_groups_policy',
      'seccomp',
      'apparmor',
      'seccomp_profile_path',
    ].map(name => [
      `LinuxSandboxSecurityContext.${name}`,
      test(POD, 'is for a process of the pod’s own, which there is none of: containers have theirs'),
    ]),
  ),
  'LinuxSandboxSecurityContext.privileged': test(POD, 'must allow a privileged container'),
  'StopPodSandboxRequest.pod_sandbox_id': test(
    LIFECYCLE,
    'stops and removes twice, and what was never there, without an error',
  ),
  'RemovePodSandboxRequest.pod_sandbox_id': test(
    LIFECYCLE,
    'stops and removes twice, and what was never there, without an error',
  ),
  'PodSandboxStatusRequest.pod_sandbox_id': test(API, 'take a prefix of an id for the id'),
  'PodSandboxStatusRequest.verbose': test(API, 'tell more when asked, as JSON'),
  'ListPodSandboxRequest.filter': test(API, 'list pods by id, state and labels'),
  'StreamPodSandboxesRequest.filter': test(EVENTS, 'streams pods and containers, each once, filtered as in lists'),
  'PodSandboxFilter.id': partOf('ListPodSandboxRequest.filter'),
  'PodSandboxFilter.state': partOf('ListPodSandboxRequest.filter'),
  'PodSandboxFilter.label_selector': partOf('ListPodSandboxRequest.filter'),
  'PodSandboxStateValue.state': partOf('ListPodSandboxRequest.filter'),

  /* ---- namespaces, of pods and containers ---- */
  'NamespaceOption.network': partOf('LinuxSandboxSecurityContext.namespace_options'),
  'NamespaceOption.ipc': partOf('LinuxSandboxSecurityContext.namespace_options'),
  'NamespaceOption.pid': test(
    NAMESPACES,
    'show its own processes as 1, 2, 3 … with CONTAINER, and those of the pod with POD',
  ),
  'NamespaceOption.target_id': test(NAMESPACES, 'joins its PID namespace and no more, whatever that one’s mode is'),

  'NamespaceOption.userns_options': test(
    USERNS,
    'belong to the pod’s, in which all of its containers are, with pid ${pid}',
  ),
  'UserNamespace.mode': test(USERNS, '${what}, for a pod'),
  'UserNamespace.uids': test(
    USERNS,
    'their root owns what root owns in the image, and a file made inside has its owner on the host',
  ),
  'UserNamespace.gids': partOf('UserNamespace.uids'),
  'IDMapping.host_id': partOf('UserNamespace.uids'),
  'IDMapping.container_id': partOf('UserNamespace.uids'),
  'IDMapping.length': partOf('UserNamespace.uids'),

  /* ---- containers ---- */
  'CreateContainerRequest.pod_sandbox_id': test(
    LIFECYCLE,
    'ends all containers of a pod that is stopped, and takes no new one',
  ),
  'CreateContainerRequest.config': test(
    LIFECYCLE,
    'goes from pull to removal, with the state, times and exit code of each step',
  ),
  // The pod was made with one, which is the pod's; the kubelet sends it again for runtimes that keep none.
  'CreateContainerRequest.sandbox_config': test(
    POD,
    'is the one that the pod was made with, whatever CreateContainer brings',
  ),
  'ContainerConfig.metadata': test(
    LIFECYCLE,
    'returns the same id for the same metadata, at once, repeated and concurrently',
  ),
  'ContainerConfig.image': test(API, 'are pulled, shown, listed and removed, with one id everywhere'),
  'ContainerConfig.command': test(ENVIRONMENT, 'is its command by the rules of command and args, entrypoint and cmd'),
  'ContainerConfig.args': test(ENVIRONMENT, 'is its command by the rules of command and args, entrypoint and cmd'),
  'ContainerConfig.working_dir': test(ENVIRONMENT, 'is in its working directory, which is made when missing'),
  'ContainerConfig.envs': test(ENVIRONMENT, 'has the environment of the image, over it the request’s, as bytes'),
  'ContainerConfig.mounts': test(ENVIRONMENT, 'has mounts of directories and files, writable or not'),
  'ContainerConfig.devices': test(
    DEVICES,
    'are those of the request, at the place that it names, with the owner and mode of the host’s',
  ),
  'ContainerConfig.labels': test(API, 'return labels and annotations as they came, also after a restart'),
  'ContainerConfig.annotations': test(API, 'return labels and annotations as they came, also after a restart'),
  'ContainerConfig.log_path': test(
    LIFECYCLE,
    'writes the log in CRI format: both streams, empty lines, a part for a last line without newline',
  ),
  'ContainerConfig.linux': partOf('LinuxContainerConfig.security_context'),
  'ContainerConfig.windows': refused(container({ windows: {} }, /windows/)),
  'ContainerConfig.stop_signal': test(LIFECYCLE, 'stops with the signal that the image or the request names'),
  'ContainerConfig.CDI_devices': test(
    'cri/cdi.test.ts',
    'bring nodes, variables, mounts and groups, from JSON and from YAML',
  ),
  'CDIDevice.name': partOf('ContainerConfig.CDI_devices'),
  'ContainerConfig.stdin': test(ATTACH, 'hands stdin on and brings both outputs, from now on'),
  'ContainerConfig.stdin_once': test(ATTACH, 'with stdin_once, the end of the first client is the end of stdin'),
  'ContainerConfig.tty': test(ATTACH, 'with a terminal: one output, the size, and the log'),
  'ContainerMetadata.name': partOf('ContainerConfig.metadata'),
  'ContainerMetadata.attempt': partOf('ContainerConfig.metadata'),
  'ImageSpec.image': partOf('ContainerConfig.image'),
  // What was found by `image` counts; these tell what it was called, and are returned as they came.
  'ImageSpec.annotations': test(POD, 'is returned as it came'),
  'ImageSpec.user_specified_image': test(POD, 'is returned as it came'),
  'ImageSpec.runtime_handler': test(POD, 'is returned as it came'),
  'ImageSpec.image_ref': test(POD, 'is returned as it came'),
  'KeyValue.key': partOf('ContainerConfig.envs'),
  'KeyValue.value': partOf('ContainerConfig.envs'),
  'Mount.container_path': partOf('ContainerConfig.mounts'),
  'Mount.host_path': partOf('ContainerConfig.mounts'),
  'Mount.readonly': partOf('ContainerConfig.mounts'),
  'Mount.propagation': test(MOUNTS, 'with BIDIRECTIONAL show on the host what the container mounts, and the other way'),
  'Mount.recursive_read_only': test(
    MOUNTS,
    'that are read-only leave mounts below them writable, and recursively read-only ones do not',
  ),
  'Mount.image': test(VOLUMES, 'are an image’s files, read-only, of ${layers} layers'),
  'Mount.image_sub_path': test(VOLUMES, 'are a part of the image when a sub path says so, found inside of it'),
  'Mount.mount_options': test(ENVIRONMENT, 'has mounts with noexec, nosuid and nodev'),
  'Mount.uidMappings': test(USERNS, 'are idmapped where the request says so: owners on the disk are those inside'),
  'Mount.gidMappings': partOf('Mount.uidMappings'),
  'Mount.selinux_relabel': test(
    'native/helper.test.ts',
    'labels everything in a volume, and nothing that links in it lead to',
  ),
  'Device.container_path': partOf('ContainerConfig.devices'),
  'Device.host_path': partOf('ContainerConfig.devices'),
  'Device.permissions': test(
    DEVICES,
    'have rules for the device cgroup: nothing, then what is standard, then what is asked for',
  ),
  'LinuxContainerConfig.resources': partOf('LinuxContainerResources.memory_limit_in_bytes'),
  'LinuxContainerResources.cpu_period': test(RESOURCES, 'are what was asked for, before the container runs'),
  'LinuxContainerResources.cpu_quota': partOf('LinuxContainerResources.cpu_period'),
  'LinuxContainerResources.cpu_shares': partOf('LinuxContainerResources.cpu_period'),
  'LinuxContainerResources.memory_limit_in_bytes': test(RESOURCES, 'are what was asked for, before the container runs'),
  'LinuxContainerResources.memory_swap_limit_in_bytes': test(
    RESOURCES,
    'allow no swap beside a memory limit, unless the request says how much',
  ),
  'LinuxContainerResources.oom_score_adj': test(
    'cri/identity-duties.test.ts',
    'raises and lowers the OOM score as far as this node may, for commands as for the container',
  ),
  'LinuxContainerResources.cpuset_cpus': partOf('LinuxContainerResources.cpu_period'),
  'LinuxContainerResources.cpuset_mems': partOf('LinuxContainerResources.cpu_period'),
  'LinuxContainerResources.hugepage_limits': test(
    RESOURCES,
    'limit huge pages by size, and need no limit of 0 for a size that the host lacks',
  ),
  'HugepageLimit.page_size': partOf('LinuxContainerResources.hugepage_limits'),
  'HugepageLimit.limit': partOf('LinuxContainerResources.hugepage_limits'),
  'LinuxContainerResources.unified': test(
    RESOURCES,
    'take unified keys for the controllers that are in cgroup v2, and name the one that is not',
  ),
  'LinuxContainerConfig.security_context': test(IDENTITY, 'is root when nobody says otherwise'),
  'LinuxContainerSecurityContext.capabilities': test(IDENTITY, 'has capabilities added and dropped as asked'),
  'LinuxContainerSecurityContext.privileged': test(
    DEVICES,
    'are all of the host’s for a privileged container, and its own nodes even so',
  ),
  'LinuxContainerSecurityContext.namespace_options': partOf('LinuxSandboxSecurityContext.namespace_options'),
  'LinuxContainerSecurityContext.run_as_user': test(
    IDENTITY,
    'is a number, with the group and home of its passwd line',
  ),
  'LinuxContainerSecurityContext.run_as_group': test(
    IDENTITY,
    'is refused when the name is not in the image, or a group is asked for without a user',
  ),
  'LinuxContainerSecurityContext.run_as_username': test(
    IDENTITY,
    'is a name, with another group when one is asked for',
  ),
  'LinuxContainerSecurityContext.readonly_rootfs': test(
    ENVIRONMENT,
    'may write to its root, or not when that is asked for',
  ),
  'LinuxContainerSecurityContext.supplemental_groups': test(
    IDENTITY,
    'has the groups of the image with the policy Merge, and without with Strict',
  ),
  'LinuxContainerSecurityContext.supplemental_groups_policy': test(
    IDENTITY,
    'has the groups of the image with the policy Merge, and without with Strict',
  ),
  'LinuxContainerSecurityContext.no_new_privs': test(IDENTITY, 'gets no new privileges when that is asked for'),
  'LinuxContainerSecurityContext.masked_paths': test(
    ENVIRONMENT,
    'cannot see what is masked nor write what is read-only',
  ),
  'LinuxContainerSecurityContext.readonly_paths': test(
    ENVIRONMENT,
    'cannot see what is masked nor write what is read-only',
  ),
  'LinuxContainerSecurityContext.seccomp': test(
    SECCOMP,
    'confines where it is asked for, in whatever words, and nowhere else',
  ),
  'LinuxContainerSecurityContext.seccomp_profile_path': test(
    SECCOMP,
    'confines where it is asked for, in whatever words, and nowhere else',
  ),
  'LinuxContainerSecurityContext.selinux_options': test(
    MODULES,
    'refuse a label where there is no SELinux, but for the one that confines nothing',
  ),
  'SELinuxOption.user': partOf('LinuxContainerSecurityContext.selinux_options'),
  'SELinuxOption.role': partOf('LinuxContainerSecurityContext.selinux_options'),
  'SELinuxOption.type': partOf('LinuxContainerSecurityContext.selinux_options'),
  'SELinuxOption.level': partOf('LinuxContainerSecurityContext.selinux_options'),
  'LinuxContainerSecurityContext.apparmor': test(MODULES, 'refuse a profile that is not on the node'),
  'LinuxContainerSecurityContext.apparmor_profile': partOf('LinuxContainerSecurityContext.apparmor'),
  'SecurityProfile.profile_type': partOf('LinuxContainerSecurityContext.seccomp'),
  'SecurityProfile.localhost_ref': test(
    SECCOMP,
    'takes a profile of the node, compares arguments and ends processes as it says',
  ),
  'Capability.add_capabilities': partOf('LinuxContainerSecurityContext.capabilities'),
  'Capability.drop_capabilities': partOf('LinuxContainerSecurityContext.capabilities'),
  'Capability.add_ambient_capabilities': test(IDENTITY, 'passes ambient capabilities on to another user'),
  'Int64Value.value': partOf('LinuxContainerSecurityContext.run_as_user'),

  /* ---- verbs and looks ---- */
  'StartContainerRequest.container_id': test(LIFECYCLE, 'starts a started container once, and an exited one never'),
  'StopContainerRequest.container_id': test(
    LIFECYCLE,
    'stops and removes twice, and what was never there, without an error',
  ),
  'StopContainerRequest.timeout': test(
    LIFECYCLE,
    'kills what does not end on the stop signal, and at once with a time-out of 0',
  ),
  'RemoveContainerRequest.container_id': test(
    LIFECYCLE,
    'stops and removes twice, and what was never there, without an error',
  ),
  'ListContainersRequest.filter': test(API, 'list containers by id, state, labels and pod, and by all together'),
  'StreamContainersRequest.filter': test(EVENTS, 'streams pods and containers, each once, filtered as in lists'),
  'ContainerFilter.id': partOf('ListContainersRequest.filter'),
  'ContainerFilter.state': partOf('ListContainersRequest.filter'),
  'ContainerFilter.pod_sandbox_id': partOf('ListContainersRequest.filter'),
  'ContainerFilter.label_selector': partOf('ListContainersRequest.filter'),
  'ContainerStateValue.state': partOf('ListContainersRequest.filter'),
  'ContainerStatusRequest.container_id': test(API, 'take a prefix of an id for the id'),
  'ContainerStatusRequest.verbose': test(
    LIFE,
    'has its pid, its spec and the steps of its launch plan, also after a restart',
  ),
  'UpdateContainerResourcesRequest.container_id': test(
    UPDATE,
    'is refused for a container that has exited, and for one that is not there',
  ),
  'UpdateContainerResourcesRequest.linux': test(
    UPDATE,
    'changes what it sets, leaves the rest, and the status tells what holds',
  ),
  'UpdateContainerResourcesRequest.windows': refused({
    rpc: 'UpdateContainerResources',
    request: ({ containerId }) => ({ containerId, linux: {}, windows: { cpuShares: 1 } }),
    code: 'UNIMPLEMENTED',
    says: /windows/,
  }),
  'UpdateContainerResourcesRequest.annotations': test(UPDATE, 'needs resources, of Linux; annotations change nothing'),
  'UpdateRuntimeConfigRequest.runtime_config': partOf('NetworkConfig.pod_cidr'),
  'RuntimeConfig.network_config': partOf('NetworkConfig.pod_cidr'),
  'NetworkConfig.pod_cidr': test(
    NETWORK,
    'hears who the pod is, what it may have by its capabilities, and the results of those before it',
  ),
  'UpdatePodSandboxResourcesRequest.pod_sandbox_id': test(UPDATE, 'is refused for a pod that is stopped or not there'),
  'UpdatePodSandboxResourcesRequest.overhead': test(
    UPDATE,
    'changes the pod’s cgroup where it is berth’s own: its resources and its overhead',
  ),
  'UpdatePodSandboxResourcesRequest.resources': test(
    UPDATE,
    'changes the pod’s cgroup where it is berth’s own: its resources and its overhead',
  ),
  'ExecRequest.container_id': test(EXEC, 'is refused for what makes no sense'),
  'ExecRequest.cmd': test(EXEC, 'keeps the outputs apart, and tells a success exactly'),
  'ExecRequest.tty': test(EXEC, 'is a session with a controlling terminal of its own, owned by its user'),
  'ExecRequest.stdin': test(EXEC, 'hands stdin on to its end, byte for byte, much of it'),
  'ExecRequest.stdout': test(EXEC, 'keeps the outputs apart, and tells a success exactly'),
  'ExecRequest.stderr': test(EXEC, 'keeps the outputs apart, and tells a success exactly'),
  'AttachRequest.container_id': test(ATTACH, 'is refused for a container that does not run'),
  'AttachRequest.stdin': test(ATTACH, 'hands stdin on and brings both outputs, from now on'),
  'AttachRequest.tty': test(ATTACH, 'with a terminal: one output, the size, and the log'),
  'AttachRequest.stdout': test(ATTACH, 'hands stdin on and brings both outputs, from now on'),
  'AttachRequest.stderr': test(ATTACH, 'hands stdin on and brings both outputs, from now on'),
  'PortForwardRequest.pod_sandbox_id': test(FORWARD, 'is refused for a pod that is not ready'),
  'PortForwardRequest.port': test(FORWARD, 'a port that the request does not name is refused'),
  'ReopenContainerLogRequest.container_id': test(LIFECYCLE, 'opens the log anew where its path points now'),

  /* ---- stats ---- */
  'ContainerStatsRequest.container_id': test(STATS, 'are of one container, by a prefix of its id, or none'),
  'ListContainerStatsRequest.filter': test(STATS, 'are listed by id, pod and labels, and streamed, each once'),
  'StreamContainerStatsRequest.filter': partOf('ListContainerStatsRequest.filter'),
  'ContainerStatsFilter.id': partOf('ListContainerStatsRequest.filter'),
  'ContainerStatsFilter.pod_sandbox_id': partOf('ListContainerStatsRequest.filter'),
  'ContainerStatsFilter.label_selector': partOf('ListContainerStatsRequest.filter'),
  'PodSandboxStatsRequest.pod_sandbox_id': test(STATS, 'are of one pod, by a prefix of its id, or none'),
  'ListPodSandboxStatsRequest.filter': test(STATS, 'are listed by id and labels while they are ready, and streamed'),
  'StreamPodSandboxStatsRequest.filter': partOf('ListPodSandboxStatsRequest.filter'),
  'PodSandboxStatsFilter.id': partOf('ListPodSandboxStatsRequest.filter'),
  'PodSandboxStatsFilter.label_selector': partOf('ListPodSandboxStatsRequest.filter'),

  'ExecSyncRequest.container_id': test(
    'cri/exec-sync.test.ts',
    'refuses a container that does not run, and a negative time-out',
  ),
  'ExecSyncRequest.cmd': test('cri/exec-sync.test.ts', 'returns both streams and the exit code'),
  'ExecSyncRequest.timeout': test('cri/exec-sync.test.ts', 'kills a command and what it started when the time is up'),
};
