import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerConfig } from '../cri';
import type { HostFacts } from '../oci/host-facts';
import type { Containers } from './containers';
import { askedDevices, everyDevice } from './host-devices';

/** Looks up on the host what a container's spec depends on. Throws `invalid_argument` for what is asked for and not there. */
export async function hostFacts(containers: Containers, config: ContainerConfig): Promise<HostFacts> {
  const isPrivileged = config.linux?.securityContext?.privileged ?? false;
  const [devices, every] = await Promise.all([askedDevices(config.devices), isPrivileged ? everyDevice() : []]);
  return { devices, everyDevice: every, cgroups: containers.cgroups.trees, thermalPaths: thermalPaths() };
}

const CPUS = '/sys/devices/system/cpu';
let thermal: string[] | undefined;

/** They come with the processor and stay. */
function thermalPaths(): string[] {
  thermal ??= readdirSync(CPUS)
    .filter(name => /^cpu\d+$/.test(name))
    .map(name => join(CPUS, name, 'thermal_throttle'))
    .filter(path => existsSync(path));
  return thermal;
}
