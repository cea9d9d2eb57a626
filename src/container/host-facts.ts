import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerConfig } from '../cri';
import type { Image } from '../image/images';
import type { HostFacts } from '../oci/host-facts';
import type { SelinuxLabels } from '../oci/selinux';
import { anonymousVolumes } from './anonymous-volumes';
import type { Containers } from './containers';
import { requestedCdiChanges } from './cdi';
import { askedDevices, cdiDevices, everyDevice } from './host-devices';

export type DeviceFacts = Pick<HostFacts, 'devices' | 'cdi' | 'everyDevice'>;

/** Looks up a request's devices on the host. Throws `invalid_argument` or `not_found` for what is asked for and not there. */
export async function deviceFacts(config: ContainerConfig, cdiDirs: readonly string[]): Promise<DeviceFacts> {
  const security = config.linux?.securityContext;
  const owner = { uid: Number(security?.runAsUser?.value ?? 0), gid: Number(security?.runAsGroup?.value ?? 0) };
  const cdi = await requestedCdiChanges(config, cdiDirs);
  const [devices, ofCdi, every] = await Promise.all([
    askedDevices(config.devices),
    cdiDevices(cdi.nodes, owner),
    security?.privileged ? everyDevice() : [],
  ]);
  return { devices: [...devices, ...ofCdi], cdi, everyDevice: every };
}

/** What a container's spec depends on: what was looked up before, and what is known. */
export function hostFacts(
  containers: Containers,
  devices: DeviceFacts,
  image: Image,
  volumes: ReadonlyMap<string, Image>,
  containerDir: string,
  selinux: SelinuxLabels | undefined,
): HostFacts {
  return {
    ...devices,
    cgroups: containers.cgroups.trees,
    thermalPaths: thermalPaths(),
    imageLowers: new Map(
      [...volumes].map(([name, found]) => [name, lowersOf(containers, found, selinux !== undefined)]),
    ),
    anonymousVolumes: anonymousVolumes(image.config.volumes, containerDir),
    selinux,
  };
}

/** The files of one layer are bound as they are, with the labels that they have; an overlay gives them the container's. */
function lowersOf({ images }: Containers, image: Image, isLabelled: boolean): string[] {
  return isLabelled ? images.readOnlyDirs(image) : images.lowerDirs(image);
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
