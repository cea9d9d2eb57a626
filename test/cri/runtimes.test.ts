import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { busyboxImage } from '../support/image-builder';
import { CriClient } from '../support/cri-client';
import { snapshot } from '../support/leaks';
import { refused, useNode } from '../support/node';

/** Says on stderr and in its log what it was asked for, and fails: what a user sees of a broken runtime. */
const broken = `#!/bin/sh
log=
while [ $# -gt 0 ]; do
  [ "$1" = --log ] && log=$2
  [ "$1" = create ] && echo '{"level":"error","msg":"no kernel for it: \\"/no/vmlinux\\" is missing"}' > "$log" && exit 7
  shift
done
exit 0
`;

/** runc is tested only where it is installed. */
const programs = ['/usr/bin/crun', '/usr/sbin/runc'].filter((path, i) => i === 0 || existsSync(path));

for (const program of programs)
  describe(`containers that ${basename(program)} makes`, function () {
    const handler = basename(program);
    this.timeout(60_000);
    const dir = mkdtempSync(join(tmpdir(), 'berth-runtimes-'));
    writeFileSync(join(dir, 'broken'), broken, { mode: 0o755 });
    after(() => rmSync(dir, { recursive: true }));
    const node = useNode({
      cgroups: 'v1 and bare v2',
      config: `[runtimes.${handler}]\npath = "${program}"\nannotations = ["org.example/*"]\n[runtimes.${handler}.rlimits]\nnofile = "400"\n[runtimes.big]\npath = "berth"\nrlimits = { nofile = "500:600", core = "0:unlimited" }\n[runtimes.broken]\npath = "${dir}/broken"\n[runtimes.missing]\npath = "/no/such/runtime"\n`,
    });

    const pod = async (options: Record<string, unknown> = {}, runtimeHandler = handler) => {
      const config = node().podConfig(options);
      return (await node().client.call('RunPodSandbox', { config, runtimeHandler })).podSandboxId;
    };
    const run = async (command: string[], options: object = {}) =>
      node().run(command, { pod: await pod(), ...options });
    const inBundle = (id: string) =>
      JSON.parse(readFileSync(join(node().daemon.state, 'containers', id, 'bundle/config.json'), 'utf8')) as {
        annotations: Record<string, string>;
      };

    it('write their log, and have their exit code and times', async () => {
      const { status, stdout, stderr } = await run(['sh', '-c', 'echo out; echo err >&2; exit 3']);
      assert.deepEqual([stdout, stderr, status.exitCode, status.reason], ['out\n', 'err\n', 3, 'Error']);
      const times = [status.createdAt, status.startedAt, status.finishedAt].map(BigInt);
      assert.ok(times[0]! <= times[1]! && times[1]! <= times[2]!, times.join(' '));
    });

    it('may end as they are started', async () => {
      const id = await pod();
      const ids = await Promise.all(Array.from({ length: 5 }, () => node().start(id, { command: ['true'] })));
      for (const container of ids) assert.equal((await node().exit(container)).exitCode, 0);
    });

    it('were made by it, and are told of with their handler', async () => {
      const podSandboxId = await pod();
      const id = await node().start(podSandboxId);
      assert.ok(existsSync(join(node().daemon.state, 'runtimes', handler, id)), 'it knows it');
      const { items } = await node().client.call('ListPodSandbox');
      assert.deepEqual(
        items.map(item => (item as unknown as { runtimeHandler: string }).runtimeHandler),
        [handler],
      );
      await node().client.call('RemoveContainer', { containerId: id });
      assert.deepEqual(readdirSync(join(node().daemon.state, 'runtimes', handler)), []);
    });

    it('are in the namespaces of their pod, and have a root, mounts and an environment as asked', async () => {
      const shared = join(node().daemon.dir, 'given');
      mkdirSync(shared, { recursive: true });
      writeFileSync(join(shared, 'file'), 'from the host\n');
      const podSandboxId = await pod();
      const first = await node().start(podSandboxId, {
        envs: [{ key: 'GREETING', value: Buffer.from('hello') }],
        mounts: [{ containerPath: '/given', hostPath: shared, readonly: true }],
        workingDir: '/somewhere/new',
      });
      const second = await node().start(podSandboxId);
      const print =
        'echo $GREETING $HOME; pwd; cat /given/file; touch /given/no 2>/dev/null || echo read-only; hostname';
      const told = await node().exec(first, ['sh', '-c', print]);
      const { hostname } = node().podConfig();
      assert.match(told, /^hello \/root\n\/somewhere\/new\nfrom the host\nread-only\npod-\d+\n$/, hostname);
      for (const name of ['net', 'ipc', 'uts', 'pid']) {
        const link = ['readlink', `/proc/self/ns/${name}`];
        assert.equal(await node().exec(first, link), await node().exec(second, link), name);
      }
      assert.match(await node().exec(second, ['ps']), /sleep 1000[^]*sleep 1000/);
      assert.match(await node().exec(first, ['cat', '/etc/hosts']), /localhost/);
    });

    it('are filtered by seccomp, have files of images as volumes, and volumes that the image fills', async () => {
      const image = await node().pull(
        'filled',
        busyboxImage({
          config: { Volumes: { '/etc/keys': {} }, Env: ['PATH=/bin'] },
          extraLayers: [[{ path: 'etc/keys/one', data: 'first\n' }]],
        }),
      );
      const { stdout } = await run(
        ['sh', '-c', 'grep Seccomp: /proc/self/status; ls /tools/bin/busybox; cat /etc/keys/one'],
        {
          image,
          security: { seccomp: { profileType: 'RuntimeDefault' } },
          mounts: [{ containerPath: '/tools', image: { image: node().box }, readonly: true }],
        },
      );
      assert.equal(stdout, 'Seccomp:\t2\n/tools/bin/busybox\nfirst\n');
    });

    it('show no mount of theirs on the host', async () => {
      const before = snapshot(node().daemon).mounts.length;
      const podSandboxId = await pod();
      const ofPod = snapshot(node().daemon).mounts.length;
      await node().start(podSandboxId);
      assert.equal(snapshot(node().daemon).mounts.length, ofPod);
      assert.ok(ofPod > before, 'the pod’s namespaces are pinned');
    });

    it('are who is asked for, by name or number, with the image’s groups', async () => {
      for (const [security, wanted] of [
        [
          { runAsUser: { value: '1000' }, runAsGroup: { value: '2000' }, supplementalGroups: ['3000'] },
          /^uid=1000.* gid=2000.* groups=2000.*3000/,
        ],
        [{ capabilities: { dropCapabilities: ['ALL'] }, noNewPrivs: true }, /^uid=0.*\nCapEff:\t0{16}\n/],
      ] as const) {
        const { stdout } = await run(['sh', '-c', 'id; grep CapEff /proc/self/status'], { security });
        assert.match(stdout, wanted);
      }
      await refused(
        node().start(await pod(), { security: { runAsUsername: 'nobody-knows' } }),
        'NOT_FOUND',
        'nobody-knows',
      );
    });

    it('stop with their signal, and by force', async () => {
      const podSandboxId = await pod();
      const command = ['sh', '-c', 'trap "exit 7" TERM; echo ready; while :; do sleep 0.01; done'];
      const polite = await node().start(podSandboxId, { command });
      while ((await node().logLines(polite)).length === 0) await sleep(5);
      await node().client.call('StopContainer', { containerId: polite, timeout: 20 });
      assert.equal((await node().status(polite)).exitCode, 7);
      const stubborn = await node().start(podSandboxId);
      await node().client.call('StopContainer', { containerId: stubborn, timeout: 0 });
      assert.equal((await node().status(stubborn)).exitCode, 137);
      const unstarted = await node().create(podSandboxId);
      await node().client.call('StopContainer', { containerId: unstarted, timeout: 0 });
      assert.match((await node().status(unstarted)).message, /stopped before it was started/);
    });

    it('have commands run in them, with output, exit code and a limit of time', async () => {
      const id = await node().start(await pod());
      const ask = (cmd: string[], timeout = 20) => node().client.call('ExecSync', { containerId: id, cmd, timeout });
      const { stdout, stderr, exitCode } = await ask(['sh', '-c', 'echo out; echo err >&2; exit 5']);
      assert.deepEqual([stdout.toString(), stderr.toString(), exitCode], ['out\n', 'err\n', 5]);
      await refused(ask(['/no/such/program']), 'FAILED_PRECONDITION', 'no/such/program');
      await refused(ask(['sleep', '4321'], 1), 'DEADLINE_EXCEEDED', 'did not end within 1 s');
      const gone = async () => !(await ask(['ps'])).stdout.toString().includes('sleep 4321');
      while (!(await gone())) await sleep(20);
    });

    it('have the limits of their handler, as berth’s own have them, in the first process and in all others', async () => {
      const all = readFileSync(`/proc/${node().daemon.pid}/limits`, 'utf8');
      // The test's daemon may not raise its own where the test may not.
      const most = Number(/^Max open files +\S+ +(\d+)/m.exec(all)?.[1]);
      const wanted = [
        // One number: programs in Go, as runc is, raise their own soft limit of descriptors, sometimes after it was set.
        [handler, '400 400', 'unlimited unlimited'],
        ['big', '500 600', '0 unlimited'],
        ['', `${Math.min(65536, most)} ${Math.min(1048576, most)}`, 'unlimited unlimited'],
      ] as const;
      const both = (limits: string, name: string) =>
        new RegExp(`^Max ${name} +(\\S+) +(\\S+)`, 'm').exec(limits)?.slice(1).join(' ');
      const assertLimits = (limits: string, [of, files, core]: (typeof wanted)[number], which: string) => {
        const found = ['open files', 'core file size', 'nice priority', 'realtime priority'].map(name =>
          both(limits, name),
        );
        assert.deepEqual(found, [files, core, '0 0', '0 0'], `${which}, handler ${JSON.stringify(of)}`);
      };
      const ids = await Promise.all(wanted.map(async ([name]) => node().start(await pod({}, name))));
      const execs = async (when: string) => {
        for (const [i, row] of wanted.entries())
          assertLimits(await node().exec(ids[i] ?? '', ['cat', '/proc/self/limits']), row, when);
      };
      for (const [i, row] of wanted.entries())
        assertLimits(readFileSync(`/proc/${await node().pidOf(ids[i] ?? '')}/limits`, 'utf8'), row, 'first process');
      await execs('exec');
      await node().restart();
      await execs('exec after a restart');
    });

    it('go on when the daemon is killed: log, exec, exit code', async () => {
      const counter = 'i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.005; done; exit 5';
      const id = await node().start(await pod(), { command: ['sh', '-c', counter] });
      const unstarted = await node().create(await pod(), { command: ['sh', '-c', 'exit 6'] });
      const pid = await node().pidOf(id);
      await node().restart();
      assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
      assert.equal(await node().pidOf(id), pid);
      await node().exec(id, ['touch', '/stop']);
      assert.equal((await node().exit(id)).exitCode, 5);
      const lines = (await node().logLines(id)).map(({ text }) => text);
      assert.deepEqual(
        lines,
        lines.map((_, i) => String(i + 1)),
      );
      await node().client.call('StartContainer', { containerId: unstarted });
      assert.equal((await node().exit(unstarted)).exitCode, 6);
    });

    it('whose creation meets the end of the daemon leave nothing', async () => {
      const before = snapshot(node().daemon);
      for (const point of ['create.launched', 'create.created', 'start.sent'] as const) {
        node().client.close();
        await node().daemon.kill();
        await node().daemon.run([], { BERTH_CRASH_AT: point });
        using client = new CriClient(node().daemon.socket);
        const config = node().podConfig();
        const { podSandboxId } = await client.call('RunPodSandbox', { config, runtimeHandler: handler });
        const container = node().containerConfig();
        const story = async () => {
          const { containerId } = await client.call('CreateContainer', { podSandboxId, config: container });
          await client.call('StartContainer', { containerId });
        };
        await assert.rejects(story());
        assert.equal(await node().daemon.ended(), 'SIGKILL');
        await node().restart();
        const { containerId } = await node().client.call('CreateContainer', { podSandboxId, config: container });
        await node().client.call('StartContainer', { containerId });
        assert.equal(await node().exec(containerId, ['echo', 'hi']), 'hi\n');
        await node().removeAll();
      }
      await node().assertNothingLeft({ ...before, fds: snapshot(node().daemon).fds });
      assert.deepEqual(readdirSync(join(node().daemon.state, 'runtimes', handler)), []);
    });

    it('reap what processes leave behind', async () => {
      const id = await node().start(await pod({ linux: { securityContext: { namespaceOptions: { pid: 'NODE' } } } }), {
        command: ['sh', '-c', '(sleep 0.05 & exit 0); sleep 1000'],
        linux: { securityContext: { namespaceOptions: { pid: 'NODE' } } },
      });
      const pid = await node().pidOf(id);
      const monitor = Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
      const children = () => readFileSync(`/proc/${monitor}/task/${monitor}/children`, 'utf8').trim();
      while (children() !== String(pid)) await sleep(10);
    });

    it('get the annotations that are configured, and no others', async () => {
      const annotations = { 'org.example/a': '1', 'run.oci.keep_original_groups': '1', other: '2' };
      const id = await node().create(await pod(), { annotations });
      assert.deepEqual(inBundle(id).annotations, { 'org.example/a': '1' });
      assert.deepEqual((await node().status(id)).annotations, annotations);
    });

    it('are refused where a bundle cannot say what is asked, and with all that the runtime says where it fails', async () => {
      const before = snapshot(node().daemon);
      const env = { envs: [{ key: 'BYTES', value: Buffer.from([0xff, 0xfe]) }] };
      await refused(node().create(await pod(), env), 'INVALID_ARGUMENT', '"BYTES" is no UTF-8');
      await refused(
        node().create(await pod({}, 'broken')),
        'FAILED_PRECONDITION',
        'no kernel for it: "/no/vmlinux" is missing',
      );
      await refused(node().create(await pod({}, 'missing')), 'FAILED_PRECONDITION', '/no/such/runtime cannot be run');
      await refused(
        node().start(await pod(), { command: ['/no/such/program'] }),
        'FAILED_PRECONDITION',
        /runtime \w+: create ended with status \d+: .*no\/such\/program/,
      );
      await refused(pod({}, 'kata'), 'NOT_FOUND', /no runtime handler "kata" .*"\w+", "big", "broken", "missing"/);
      await node().removeAll();
      await node().assertNothingLeft(before);
    });

    it('are a runtime handler in Status, with its features', async () => {
      const status = (await node().client.call('Status')) as unknown as {
        runtimeHandlers: { name: string; features: { recursiveReadOnlyMounts: boolean; userNamespaces: boolean } }[];
      };
      const names = status.runtimeHandlers.map(({ name }) => name);
      assert.deepEqual(names, ['', 'big', handler, 'broken', 'missing']);
      assert.deepEqual(status.runtimeHandlers[1]?.features, status.runtimeHandlers[0]?.features);
      assert.deepEqual(status.runtimeHandlers[3]?.features, { recursiveReadOnlyMounts: false, userNamespaces: false });
    });
  });
