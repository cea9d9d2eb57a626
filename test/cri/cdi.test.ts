import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
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

  describe('with hooks', () => {
    const script = (name: string, text: string) => {
      writeFileSync(join(dir, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
      return join(dir, name);
    };
    const withHooks = (kind: string, hooks: readonly Record<string, unknown>[]) => {
      const devices = [{ name: 'x', containerEdits: { hooks } }];
      writeFileSync(
        join(etc, `${kind}.json`),
        JSON.stringify({ cdiVersion: '0.6.0', kind: `hook.com/${kind}`, devices }),
      );
      return { CDIDevices: [{ name: `hook.com/${kind}=x` }], annotations: { mine: 'yes' } };
    };

    it('let one of createContainer change the root that the container gets', async () => {
      const hook = script(
        'change',
        `cat > ${dir}/state
         root=$(sed -n 's/.*"path": "\\(.*rootfs\\)".*/\\1/p' "$(sed 's/.*"bundle":"\\([^"]*\\)".*/\\1/' ${dir}/state)/config.json")
         echo "$0 $* $MARK" > "$root/etc/from-hook"
         umask > ${dir}/umask
         mkdir "$root/mnt" && mount -t tmpfs none "$root/mnt" && echo mounted > "$root/mnt/file"`,
      );
      const asked = withHooks('change', [
        {
          hookName: 'createContainer',
          path: hook,
          args: ['hook', 'one', 'two'],
          env: ['MARK=m', 'PATH=/usr/bin:/bin'],
        },
      ]);
      const id = await start(asked);
      assert.equal(await sh(id, 'cat /etc/from-hook /mnt/file'), `${hook} one two m\nmounted\n`);
      const state = JSON.parse(readFileSync(join(dir, 'state'), 'utf8')) as Record<string, unknown>;
      assert.deepEqual([state['id'], state['status']], [id, 'creating']);
      assert.equal((state['annotations'] as Record<string, string>)['mine'], 'yes');
      // The container's process as the host counts it, which is the one that runs now.
      assert.equal(state['pid'], await node().pidOf(id));
      assert.doesNotMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(id));
      // What it makes in the container is not for every user there to write.
      assert.equal(readFileSync(join(dir, 'umask'), 'utf8').trim(), '0022');
    });

    it('run those of createRuntime on the host, beside the container’s process', async () => {
      const hook = script('host', `cat > ${dir}/state2; readlink /proc/self/ns/mnt > ${dir}/ns`);
      const id = await start(
        withHooks('host', [{ hookName: 'createRuntime', path: hook, env: ['PATH=/usr/bin:/bin'] }]),
      );
      const { pid } = JSON.parse(readFileSync(join(dir, 'state2'), 'utf8')) as { pid: number };
      assert.equal(pid, await node().pidOf(id));
      assert.notEqual(readFileSync(join(dir, 'ns'), 'utf8').trim(), readlinkSync(`/proc/${pid}/ns/mnt`));
    });

    it('make no container when one fails, and say what it said', async () => {
      const pod = await node().pod();
      const fails = script('fails', 'echo "no such driver" >&2; exit 3');
      await refused(
        node().create(pod, withHooks('fails', [{ hookName: 'createContainer', path: fails }])),
        'FAILED_PRECONDITION',
        new RegExp(`createContainer hook ${fails}: it ended with 3: no such driver; it comes with a device`),
      );
      await refused(
        node().create(pod, withHooks('fails2', [{ hookName: 'createRuntime', path: fails }])),
        'FAILED_PRECONDITION',
        new RegExp(`createRuntime hook ${fails}: it ended with 3: no such driver`),
      );
      await refused(
        node().create(pod, withHooks('none', [{ hookName: 'createContainer', path: join(dir, 'none') }])),
        'FAILED_PRECONDITION',
        /none: it ended with 127: No such file/,
      );
    });

    it('end one that takes too long, with what it has started', async () => {
      const hook = script('slow', 'sleep 4242.4242 & wait');
      const slow = { hookName: 'createContainer', path: hook, timeout: 1, env: ['PATH=/usr/bin:/bin'] };
      await refused(
        node().create(await node().pod(), withHooks('slow', [slow])),
        'FAILED_PRECONDITION',
        /it did not end in time/,
      );
      const sleeps = readdirSync('/proc').filter(pid => /^\d+$/.test(pid) && commandOf(pid).includes('4242.4242'));
      assert.deepEqual(sleeps, []);
    });

    /** Appends its name and the status that it was told to a file, which the container has, too. */
    const noteHook = (hookName: string, file: string) => ({
      hookName,
      path: '/bin/sh',
      args: ['sh', '-c', `echo ${hookName} $(sed 's/.*"status":"\\([a-z]*\\)".*/\\1/') >> ${file}`],
      env: ['PATH=/usr/bin:/bin'],
    });
    const notes = (name: string) => {
      mkdirSync(join(dir, name));
      const file = join(dir, name, 'notes');
      const mounts = [{ containerPath: join(dir, name), hostPath: join(dir, name) }];
      const lines = () => (existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : []);
      return { file, mounts, lines };
    };
    const all = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'];

    it('run all of them, each at its moment, those after the end also when the daemon has been another since', async () => {
      const { file, mounts, lines } = notes('moments');
      const asked = withHooks(
        'moments',
        all.toReversed().map(name => noteHook(name, file)),
      );
      const command = ['sh', '-c', `echo command >> ${file}; exec sleep 1000`];
      const id = await start({ ...asked, mounts, command });
      const made = [
        'prestart creating',
        'createRuntime creating',
        'createContainer creating',
        'startContainer created',
      ];
      while (!lines().includes('command')) await sleep(20);
      assert.deepEqual(lines().slice(0, 4), made);
      assert.deepEqual(lines().slice(4).sort(), ['command', 'poststart running']);
      await node().restart();
      await node().client.call('RemoveContainer', { containerId: id });
      assert.deepEqual(lines().slice(6), ['poststop stopped']);
    });

    it('run those after the end when the daemon ends before them', async () => {
      const { file, mounts, lines } = notes('late');
      const asked = withHooks('late', [noteHook('poststop', file)]);
      const id = await start({ ...asked, mounts });
      node().client.close();
      await node().daemon.kill();
      await node().daemon.run([], { BERTH_CRASH_AT: 'exit.cgroup-removed' });
      await node().reconnect();
      await assert.rejects(node().client.call('RemoveContainer', { containerId: id }));
      await node().daemon.ended();
      await node().restart();
      await node().client.call('RemoveContainer', { containerId: id });
      assert.deepEqual(lines(), ['poststop stopped']);
    });

    it('run one of startContainer in the container, with the rights of its process, and nothing of ours', async () => {
      const print = [
        'cat > /told; exec > /hook; id; cat /etc/image; pwd; ulimit -n',
        'grep -E "^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp):" /proc/self/status; ls /proc/self/fd; env | sort; echo out >&2',
      ].join('; ');
      const image = await node().pull(
        'hooked',
        busyboxImage({
          config: { Env: ['PATH=/bin'], WorkingDir: '/tmp' },
          extraLayers: [[{ path: 'etc/image', data: 'of the image\n' }]],
        }),
      );
      const hook = {
        hookName: 'startContainer',
        path: '/bin/sh',
        args: ['sh', '-c', print],
        env: ['A=b', 'PATH=/bin'],
      };
      const id = await start({
        ...withHooks('start', [hook]),
        image,
        security: {
          capabilities: { dropCapabilities: ['ALL'], addCapabilities: ['CHOWN'] },
          noNewPrivs: true,
          seccomp: { profileType: 'RuntimeDefault' },
        },
      });
      const said = await sh(id, 'cat /hook');
      const own = await sh(id, 'grep -E "^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp):" /proc/self/status');
      const limits = await sh(id, 'ulimit -n');
      assert.match(own, /NoNewPrivs:\t1\nSeccomp:\t2\n/);
      const identity = 'uid=0(root) gid=0(root) groups=0(root)';
      assert.equal(
        said.replace(/ groups=.*/, ' groups=0(root)'),
        `${identity}\nof the image\n/tmp\n${limits}${own}0\n1\n2\n3\nA=b\nPATH=/bin\nPWD=/tmp\nSHLVL=1\n`,
      );
      const state = JSON.parse(await sh(id, 'cat /told')) as Record<string, unknown>;
      assert.deepEqual([state['id'], state['status'], typeof state['pid']], [id, 'created', 'number']);
    });

    it('fail the start with what one of startContainer has said, and run those after the end', async () => {
      const { file, mounts, lines } = notes('unstarted');
      const pod = await node().pod();
      const refuses = { hookName: 'startContainer', path: '/bin/sh', args: ['sh', '-c', 'echo no license; exit 9'] };
      const id = await node().create(pod, {
        ...withHooks('refuses', [refuses, noteHook('poststop', file)]),
        ...{ mounts, command: ['sh', '-c', `echo command >> ${file}`] },
      });
      const why = 'startContainer hook /bin/sh: it ended with 9: no license; it comes with a device';
      await refused(node().client.call('StartContainer', { containerId: id }), 'FAILED_PRECONDITION', new RegExp(why));
      const { exitCode, reason, message } = await node().status(id);
      assert.deepEqual([exitCode, reason, message.startsWith(why)], [128, 'StartError', true], message);
      const missing = { hookName: 'startContainer', path: '/no/such' };
      const other = await node().create(pod, withHooks('nosuch', [missing]));
      await refused(
        node().client.call('StartContainer', { containerId: other }),
        'FAILED_PRECONDITION',
        /startContainer hook \/no\/such: it ended with 127: No such file/,
      );
      await node().client.call('RemoveContainer', { containerId: id });
      assert.deepEqual(lines(), ['poststop stopped']);
    });

    it('undo by those after the end what one before it has made, when another one fails', async () => {
      const { file, lines } = notes('undone');
      const fails = script('fails-late', 'exit 4');
      const hooks = [
        noteHook('prestart', file),
        { hookName: 'createRuntime', path: fails },
        noteHook('poststop', file),
      ];
      await refused(
        node().create(await node().pod(), withHooks('undone', hooks)),
        'FAILED_PRECONDITION',
        /createRuntime hook .*fails-late: it ended with 4/,
      );
      assert.deepEqual(lines(), ['prestart creating', 'poststop stopped']);
    });

    it('go on where one of poststart or poststop fails, which the log tells', async () => {
      const fails = script('fails-after', 'echo "driver is away" >&2; exit 5');
      const id = await start(
        withHooks(
          'after',
          ['poststart', 'poststop'].map(hookName => ({ hookName, path: fails, env: ['PATH=/bin'] })),
        ),
      );
      assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
      await node().client.call('RemoveContainer', { containerId: id });
      for (const name of ['poststart', 'poststop'])
        assert.match(node().daemon.log, new RegExp(`${name} hook ${fails}: it ended with 5: driver is away`));
    });

    it('run in a user namespace as its root, and find there the bundle and the root, and nothing else of berth’s', async () => {
      chmodSync(dir, 0o755);
      const hook = script(
        'mapped',
        `state=$(cat)
         bundle=$(echo "$state" | sed 's/.*"bundle":"\\([^"]*\\)".*/\\1/')
         root=$(sed -n 's/.*"path": "\\(.*rootfs\\)".*/\\1/p' "$bundle/config.json")
         echo $(id -u) $(cat /proc/self/uid_map) > "$root/etc/from-hook"
         mkdir "$root/mnt" && mount -t tmpfs none "$root/mnt" && echo mounted > "$root/mnt/file"
         (ls "$bundle/../../.."; echo; ls "$bundle/../..") > "$root/etc/seen" 2>&1
         exit 0`,
      );
      const mapping = (hostId: number) => [{ containerId: 0, hostId, length: 65536 }];
      const usernsOptions = { mode: 'POD', uids: mapping(300_000), gids: mapping(500_000) };
      const namespaceOptions = { pid: 'CONTAINER', usernsOptions };
      const pod = await node().pod({ linux: { securityContext: { privileged: false, namespaceOptions } } });
      const host = notes('mapped-host');
      const within = { hookName: 'startContainer', path: '/bin/sh', args: ['sh', '-c', 'id -u > /etc/from-start'] };
      const id = await node().start(pod, {
        ...withHooks('mapped', [
          noteHook('createRuntime', host.file),
          { hookName: 'createContainer', path: hook, env: ['PATH=/usr/bin:/bin'] },
          { ...within, env: ['PATH=/bin'] },
        ]),
        security: { namespaceOptions },
      });
      assert.equal(await sh(id, 'cat /etc/from-hook /mnt/file /etc/from-start'), '0 0 300000 65536\nmounted\n0\n');
      assert.equal(await sh(id, 'stat -c %u /etc/from-hook'), '0\n');
      // Its own directories have no r for others: they are gone through, not listed.
      assert.match(await sh(id, 'cat /etc/seen'), /Permission denied[^]*Permission denied/);
      assert.deepEqual(host.lines(), ['createRuntime creating']);
    });
  });
});

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
