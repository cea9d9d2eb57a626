import type { MountSpec, Spec } from '../src/oci/spec';

/** A spec of berth's as the config.json of an OCI bundle, for other runtimes: the same mounts, namespaces, capabilities and cgroup. */
export function bundleConfig(spec: Spec, rootPath: string): unknown {
  const { process, linux, mounts } = spec;
  const capabilities = Object.entries(process.capabilities).map(([set, names]) => [
    set,
    (names as string[]).map(name => `CAP_${name}`),
  ]);
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: 0, gid: 0, umask: process.umask },
      args: process.args,
      env: process.env.map(entry => entry.toString('utf8')),
      cwd: process.cwd,
      capabilities: Object.fromEntries(capabilities) as unknown,
      noNewPrivileges: process.noNewPrivileges,
      oomScoreAdj: process.oomScoreAdj,
    },
    root: { path: rootPath, readonly: spec.root.readonly },
    mounts: mounts.filter(({ destination }) => !destination.startsWith('/sys/fs/cgroup/')).map(bundleMount),
    linux: {
      namespaces: linux.namespaces,
      maskedPaths: linux.maskedPaths,
      readonlyPaths: linux.readonlyPaths,
      cgroupsPath: linux.cgroupsPath,
    },
  };
}

function bundleMount(mount: MountSpec): unknown {
  const isBind = mount.type === 'bind';
  // One mount to them, whatever the host's hierarchies are.
  if (mount.destination === '/sys/fs/cgroup') {
    return {
      destination: mount.destination,
      type: 'cgroup',
      source: 'cgroup',
      options: ['ro', 'nosuid', 'nodev', 'noexec'],
    };
  }
  // The peers make the device nodes in place, where berth binds them.
  const asMount = mount.destination === '/dev' ? { ...mount, nodev: false } : mount;
  const flags = (['nosuid', 'nodev', 'noexec', 'strictatime'] as const).filter(flag => asMount[flag]);
  return {
    destination: mount.destination,
    type: mount.type,
    source: isBind ? mount.source : mount.type,
    options: [
      ...(isBind ? [mount.recursive ? 'rbind' : 'bind', mount.recursive ? 'rprivate' : 'private'] : []),
      mount.readonly ? 'ro' : 'rw',
      ...flags,
      ...mount.options,
    ],
  };
}
