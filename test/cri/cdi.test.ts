import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { busyboxImage } from '../support/image-builder';
import { refused, useNode } from '../support/node';

describe('CDI devices', function () {
  this.timeout(60_000);
  const dir = mkdtempSync(join(tmpdir(), 'berth-cdi-'));
  const [etc, run] = [join(dir, 'etc'), join(dir, 'run')];
  const node = useNode({ config: `[cdi]\nspec_dirs = [${JSON.stringify(etc)}, ${JSON.stringify(run)}]` });
  before(() => [etc, run].forEach(path => mkdirSync(path)));
  after(() => rmSync(dir, { recursive: true, force: true }));
  const sh = (id: string, script: string) => node().exec(id, ['sh', '-c', script]);
  const start = async (options: Record<string, unknown>) => node().start(await node().pod(), options);

  it('bring nodes, variables, mounts and groups, from JSON and from YAML', async () => {
    execFileSync('mknod', [join(dir, 'zero'), 'c', '1', '5']);
    writeFileSync(join(dir, 'library'), 'library\n');
    writeFileSync(
      join(etc, 'vendor.yaml'),
      `# as a vendor's tool writes it
cdiVersion: "0.5.0"
kind: vendor.com/class
containerEdits:
  env:
    - COMMON=of the spec
  mounts:
    - hostPath: ${join(dir, 'library')}
      containerPath: /usr/lib/library
      options: [ro, nosuid, nodev, bind]
devices:
  - name: one
    containerEdits:
      deviceNodes:
        - path: /dev/vendor/one
          hostPath: ${join(dir, 'zero')}
          permissions: rw
          fileMode: 0o620
          uid: 1000
      additionalGids: [4242]
`,
    );
    writeFileSync(
      join(run, 'other.json'),
      JSON.stringify({
        cdiVersion: '1.0.0',
        kind: 'other.org/net',
        devices: [
          { name: '0', containerEdits: { deviceNodes: [{ path: '/dev/full' }], env: ['OTHER=1', 'A=device'] } },
        ],
      }),
    );
    const id = await start({
      CDIDevices: [{ name: 'vendor.com/class=one' }],
      annotations: { 'cdi.k8s.io/plugin': 'other.org/net=0,vendor.com/class=one' },
      envs: [{ key: 'A', value: Buffer.from('request') }],
    });
    assert.equal(
      await sh(id, 'stat -c "%t:%T %a %u" /dev/vendor/one; head -c 2 /dev/vendor/one | wc -c'),
      '1:5 620 1000\n2\n',
    );
    assert.equal(
      await sh(id, 'echo "$COMMON $OTHER $A"; cat /usr/lib/library; id -G'),
      'of the spec 1 device\nlibrary\n0 4242\n',
    );
    assert.equal(await sh(id, '(echo x > /usr/lib/library) 2>/dev/null || echo no'), 'no\n');
  });

  it('belong to the user that the request names, unless the spec says otherwise', async () => {
    const devices = [
      { name: 'x', containerEdits: { deviceNodes: [{ path: '/dev/mine', type: 'c', major: 1, minor: 5 }] } },
    ];
    writeFileSync(join(etc, 'owner.json'), JSON.stringify({ cdiVersion: '0.6.0', kind: 'owner.com/c', devices }));
    const id = await start({
      CDIDevices: [{ name: 'owner.com/c=x' }],
      security: { runAsUser: { value: 1000 }, runAsGroup: { value: 2000 } },
    });
    assert.equal(await sh(id, 'stat -c "%u:%g" /dev/mine; head -c 1 /dev/mine | wc -c'), '1000:2000\n1\n');
  });

  it('that no spec has are refused, with what is wrong with the specs', async () => {
    writeFileSync(join(run, 'broken.yaml'), 'cdiVersion: "0.6.0"\nkind: [');
    const pod = await node().pod();
    const CDIDevices = [{ name: 'vendor.com/class=two' }];
    await refused(node().create(pod, { CDIDevices }), 'NOT_FOUND', /class=two: no spec has it.*broken\.yaml/);
    await refused(node().create(pod, { CDIDevices: [{ name: 'x' }] }), 'INVALID_ARGUMENT', 'no name of a CDI device');
    rmSync(join(run, 'broken.yaml'));
  });

  it('come from the request alone: labels of an image ask for nothing (CVE-2026-53492)', async () => {
    const labels = { 'cdi.k8s.io/evil': 'no.such/device=x', CDI_devices: 'no.such/device=x' };
    const image = await node().pull('labels', busyboxImage({ config: { Env: ['PATH=/bin'], Labels: labels } }));
    const { status } = await node().run(['true'], { image });
    assert.equal(status.exitCode, 0);
  });
});
