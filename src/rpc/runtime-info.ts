import { release } from 'node:os';
import type { Logger } from '../base/log';
import type { Runtimes } from '../container/runtimes';
import type { OciRuntime } from '../process/oci-runtime';
import {
  CgroupDriver,
  type RuntimeConfigResponse,
  type RuntimeHandler,
  type StatusResponse,
  type VersionResponse,
} from '../cri';
import type { CgroupDriverName } from '../cgroup/groups';
import type { Config } from '../config';
import type { PodNetwork } from '../network/pod-network';
import { APPARMOR_DEFAULT } from '../oci/apparmor';
import { appArmorHost, selinuxHost } from '../sandbox/security-modules';
import type { UserNamespaceSupport } from '../sandbox/user-namespaces';

/** The version of the CRI that the kubelet speaks of in Version; it has never changed. */
const KUBELET_API_VERSION = '0.1.0';

/** Overlay's `lowerdir+` option, without which a deep image does not fit into a mount. */
const OLDEST_KERNEL: readonly [number, number] = [6, 8];

export function version(ownVersion: string): VersionResponse {
  return {
    version: KUBELET_API_VERSION,
    runtimeName: 'berth',
    runtimeVersion: ownVersion,
    runtimeApiVersion: 'v1',
  };
}

/** Whether pods can run, and what the runtime can do. `verbose` adds the configuration. */
export async function status(
  config: Config,
  podNetwork: PodNetwork,
  userNamespaces: UserNamespaceSupport,
  isVerbose: boolean,
  runtimes: Runtimes,
  log: Logger,
): Promise<StatusResponse> {
  const network = await podNetwork.status();
  const runtime = runtimeReady();
  const missing = await userNamespaces.missing();
  const hasUserNamespaces = missing === undefined;
  return {
    status: {
      conditions: [
        { type: 'RuntimeReady', status: runtime.isReady, reason: runtime.reason, message: runtime.message },
        { type: 'NetworkReady', status: network.isReady, reason: network.reason, message: network.message },
      ],
    },
    info: isVerbose
      ? {
          config: JSON.stringify(config),
          userNamespaces: missing ?? 'supported',
          ...(await securityModules(log)),
        }
      : {},
    runtimeHandlers: [
      ...['', ...runtimes.own].map(name => {
        return { name, features: { recursiveReadOnlyMounts: true, userNamespaces: hasUserNamespaces } };
      }),
      ...(await Promise.all(runtimes.list().map(handlerOf))),
    ],
    features: {
      supplementalGroupsPolicy: true,
      userNamespacesHostNetwork: hasUserNamespaces,
      mountOptions: true,
    },
  };
}

/** What containers are confined by beside seccomp, or why not. */
async function securityModules(log: Logger): Promise<{ appArmor: string; selinux: string }> {
  const [appArmor, selinux] = await Promise.all([appArmorHost(log), selinuxHost(log)]);
  return {
    appArmor: !appArmor.isEnabled ? 'not enabled' : (appArmor.missingDefault ?? `default profile ${APPARMOR_DEFAULT}`),
    selinux: !selinux
      ? 'not enabled'
      : `${selinux.isKnown ? 'default label' : 'the policy does not have'} ${selinux.process}`,
  };
}

/** Of a runtime that cannot be asked nothing is promised; who uses it hears why it does not work. */
async function handlerOf(runtime: OciRuntime): Promise<RuntimeHandler> {
  const { recursiveReadOnlyMounts } = await runtime.features().catch(() => ({ recursiveReadOnlyMounts: false }));
  return { name: runtime.name, features: { recursiveReadOnlyMounts, userNamespaces: false } };
}

function runtimeReady(): { isReady: boolean; reason: string; message: string } {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const [wantedMajor, wantedMinor] = OLDEST_KERNEL;
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) {
    return { isReady: true, reason: '', message: '' };
  }
  return {
    isReady: false,
    reason: 'KernelTooOld',
    message: `kernel ${release()} is older than ${OLDEST_KERNEL.join('.')}, which berth needs; boot a newer one`,
  };
}

/** The cgroup driver that the kubelet must use, too. */
export function runtimeConfig(driver: CgroupDriverName): RuntimeConfigResponse {
  return { linux: { cgroupDriver: driver === 'systemd' ? CgroupDriver.SYSTEMD : CgroupDriver.CGROUPFS } };
}
