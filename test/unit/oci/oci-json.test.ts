import assert from 'node:assert/strict';
import { ContainerConfig, Mount } from '../../../src/cri';
import { containerSpec, type PodFacts } from '../../../src/oci/container-spec';
import { bundleJson, processJson } from '../../../src/oci/oci-json';
import type { HostFacts } from '../../../src/oci/host-facts';
import type { Spec } from '../../../src/oci/spec';

const pod: PodFacts = {
  hostname: 'pod',
  networkPath: '/pod/net',
  ipcPath: '/pod/ipc',
  utsPath: '/pod/uts',
  pidPath: '/pod/pid',
  makeMountSources: true,
  hostPid: false,
  shmPath: '/pod/shm',
  files: { '/etc/hosts': '/pod/hosts' },
  cgroupPath: '/pod/container',
};
const host: HostFacts = {
  devices: [],
  cdi: { env: [], mounts: [], groups: [], hooks: {} },
  everyDevice: [],
  cgroups: { isUnified: true, v1: [] },
  thermalPaths: [],
  imageLowers: new Map([['volume', ['/layer']]]),
  anonymousVolumes: [],
  selinux: undefined,
};
const image = { env: [], entrypoint: ['/bin/true'], cmd: [], workingDir: '', user: '' };
const user = { uid: 1000, gid: 2000, groups: [2000, 3000], home: '/home/me' };
const spec = (config: Partial<ContainerConfig> = {}) =>
  containerSpec(ContainerConfig.fromPartial(config), image, pod, host);

interface Bundle {
  ociVersion: string;
  process: { user: object; env: string[]; capabilities: Record<string, string[]>; args: string[]; cwd: string };
  root: object;
  mounts: { destination: string; type: string; source: string; options: string[] }[];
  annotations: object;
  linux: Record<string, unknown> & { namespaces: { type: string; path?: string }[] };
}
const bundle = (from: Spec, annotations = {}) => JSON.parse(bundleJson(from, '/stage', user, annotations)) as Bundle;

describe('a bundle’s config.json', () => {
  it('has the limits of its process, whose number for none is the kernel’s', () => {
    const rlimits = [
      { type: 'RLIMIT_NOFILE', resource: 7, soft: 1024, hard: -1 },
      { type: 'RLIMIT_CORE', resource: 4, soft: 0, hard: 0 },
    ];
    const { process } = containerSpec(ContainerConfig.create(), image, { ...pod, rlimits }, host);
    const text = processJson(process, user).replace(/\s+/g, '');
    assert.ok(text.includes('{"type":"RLIMIT_NOFILE","soft":1024,"hard":18446744073709551615}'), text);
    assert.ok(text.includes('{"type":"RLIMIT_CORE","soft":0,"hard":0}'), text);
  });

  it('is the spec in the words of the OCI specification', () => {
    const made = bundle(spec(), { 'a.b/c': 'd' });
    assert.match(made.ociVersion, /^1\.\d+\.\d+$/);
    assert.deepEqual(made.root, { path: '/stage', readonly: false });
    assert.deepEqual(made.process.user, { uid: 1000, gid: 2000, umask: 0o022, additionalGids: [2000, 3000] });
    assert.deepEqual(made.process.args, ['/bin/true']);
    assert.ok(made.process.env.includes('HOME=/home/me'));
    assert.ok(made.process.capabilities['bounding']?.includes('CAP_CHOWN'));
    assert.deepEqual(made.annotations, { 'a.b/c': 'd' });
    assert.equal(made.linux['cgroupsPath'], '/pod/container');
    const paths = new Map(made.linux.namespaces.map(({ type, path }) => [type, path]));
    assert.deepEqual(
      ['network', 'ipc', 'uts', 'pid', 'mount', 'cgroup'].map(type => paths.get(type)),
      ['/pod/net', '/pod/ipc', '/pod/uts', '/pod/pid', undefined, undefined],
    );
    assert.ok(paths.has('mount') && paths.has('cgroup'));
  });

  it('has mounts with their options as strings', () => {
    const { mounts, linux } = bundle(
      spec({
        mounts: [
          Mount.fromPartial({ containerPath: '/ro', hostPath: '/h', readonly: true, mountOptions: ['noexec'] }),
          Mount.fromPartial({ containerPath: '/slave', hostPath: '/s', propagation: 1 }),
        ],
      }),
    );
    const options = (at: string) => mounts.find(({ destination }) => destination === at)?.options ?? [];
    for (const option of ['rbind', 'rprivate', 'ro', 'noexec', 'nodev'])
      assert.ok(options('/ro').includes(option), option);
    for (const option of ['rbind', 'rslave', 'rw']) assert.ok(options('/slave').includes(option), option);
    assert.equal(linux['rootfsPropagation'], 'rslave');
    assert.ok(options('/proc').includes('nosuid'));
    // Runtimes make the standard devices in it.
    assert.ok(!options('/dev').includes('nodev'));
    assert.ok(options('/dev').includes('mode=755'));
  });

  it('keeps HOME and the digits of big numbers', () => {
    const from = spec({ envs: [{ key: 'HOME', value: Buffer.from('/mine') }] });
    assert.deepEqual(
      bundle(from).process.env.filter(entry => entry.startsWith('HOME=')),
      ['HOME=/mine'],
    );
    const resources = { ...from.linux.resources, big: 2n ** 64n - 1n, negative: -1n, text: '123' };
    const text = bundleJson({ ...from, linux: { ...from.linux, resources } }, '/stage', user, {});
    assert.match(text, /"big": 18446744073709551615\b/);
    assert.match(text, /"negative": -1\b/);
    assert.match(text, /"text": "123"/);
  });

  it('refuses environment that JSON cannot hold', () => {
    const from = spec({ envs: [{ key: 'BYTES', value: Buffer.from([0xff]) }] });
    assert.throws(() => bundleJson(from, '/stage', user, {}), /"BYTES" is no UTF-8/);
    assert.throws(() => processJson(from.process, user), /"BYTES" is no UTF-8/);
  });
});
