import './only-in-guest';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { berth } from '../cli/berth';
import { busyboxImage } from '../support/image-builder';
import { refused, useNode } from '../support/node';

const LABEL = ['cat', '/proc/self/attr/current'];
const LEVEL = /^s0:c\d+,c\d+$/;

/** Prints the label of its session keyring. */
const KEY_LABEL = `
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { GET_SECURITY = 17, SESSION = -3 }; /* linux/keyctl.h */
int main(void)
{
    char label[256] = "";
    syscall(SYS_keyctl, GET_SECURITY, SESSION, label, sizeof label);
    return puts(label) < 0;
}
`;

const labelOf = (path: string) =>
  execFileSync('getfattr', ['-h', '--absolute-names', '--only-values', '-n', 'security.selinux', path], {
    encoding: 'latin1',
  }).replace(/\0$/, '');
const context = (text: string) => {
  const [user = '', role = '', type = '', ...level] = text.split(':');
  return { user, role, type, level: level.join(':') };
};
const enforce = (isOn: boolean) => writeFileSync('/sys/fs/selinux/enforce', isOn ? '1' : '0');

describe('on a node with SELinux, a container', function () {
  this.timeout(60_000);
  before(() => assert.ok(existsSync('/sys/fs/selinux/enforce')));
  afterEach(() => enforce(false));
  const node = useNode({ config: '[runtimes.crun]\npath = "/usr/bin/crun"\n' });

  const trimmed = (text: string) => text.replace(/\0?\n?$/, '');
  const processLabel = async (id: string) => trimmed(await node().exec(id, LABEL));
  const firstLabel = async (id: string) =>
    trimmed(readFileSync(`/proc/${await node().pidOf(id)}/attr/current`, 'latin1'));
  const fileLabel = async (id: string, path: string) => labelOf(`/proc/${await node().pidOf(id)}/root${path}`);
  const podWith = (securityContext: Record<string, unknown>) => node().pod({ linux: { securityContext } });
  const start = async (security: Record<string, unknown> = {}, pod?: string, more: object = {}) =>
    node().start(pod ?? (await node().pod()), { security, ...more });
  const directory = (name: string) => {
    const path = join(node().daemon.dir, name);
    mkdirSync(join(path, 'sub'), { recursive: true });
    writeFileSync(join(path, 'sub/file'), 'content\n');
    return path;
  };

  it('has the policy’s label for containers with its pod’s level, which no other pod has', async () => {
    const pod = await node().pod();
    const [a, b] = [await start({}, pod), await start({}, pod)];
    const other = await start();
    const label = await processLabel(a);
    const { user, role, type, level } = context(label);
    assert.deepEqual([user, role, type], ['system_u', 'system_r', 'container_t']);
    assert.match(level, LEVEL);
    assert.equal(await firstLabel(a), label, 'what is run in it has the same');
    assert.equal(await firstLabel(b), label, 'so have all of the pod');
    assert.notEqual(context(await firstLabel(other)).level, level);
    const { info } = await node().client.call('Status', { verbose: true });
    assert.equal(info['selinux'], 'default label system_u:system_r:container_t:s0');
    const status = await node().client.call('ContainerStatus', { containerId: a, verbose: true });
    const { runtimeSpec } = JSON.parse(status.info['info'] ?? '{}') as { runtimeSpec: { process: object } };
    assert.equal((runtimeSpec.process as { selinuxLabel: string }).selinuxLabel, label);
  });

  it('has files of that level, whatever file system they are in', async () => {
    const id = await start();
    const { level } = context(await firstLabel(id));
    const paths = ['/', '/bin/busybox', '/dev', '/dev/null', '/dev/pts', '/dev/shm', '/dev/mqueue'];
    for (const path of [...paths, '/etc/hosts', '/etc/hostname', '/etc/resolv.conf'])
      assert.equal(await fileLabel(id, path), `system_u:object_r:container_file_t:${level}`, path);
  });

  it('has the parts of a label that it asks for, or else its pod', async () => {
    const pod = await podWith({ selinuxOptions: { level: 's0:c1,c2' } });
    assert.equal(await firstLabel(await start({}, pod)), 'system_u:system_r:container_t:s0:c1,c2');
    const own = await start({ selinuxOptions: { type: 'spc_t', level: 's0:c3' } }, pod);
    assert.equal(await firstLabel(own), 'system_u:system_r:spc_t:s0:c3');
    assert.equal(await fileLabel(own, '/'), 'system_u:object_r:container_file_t:s0:c3');
    assert.equal(await fileLabel(own, '/etc/hosts'), 'system_u:object_r:container_file_t:s0:c1,c2');
  });

  it('is not made with a label that the policy does not have', async () => {
    const pod = await node().pod();
    for (const selinuxOptions of [{ type: 'no_such_t' }, { level: 's0:c9999' }, { role: 'no_such_r' }])
      await refused(
        node().create(pod, { security: { selinuxOptions } }),
        'FAILED_PRECONDITION',
        /SELinux label system_u:\S+: this node's policy does not have it/,
      );
    assert.deepEqual((await node().client.call('ListContainers')).containers, []);
  });

  it('is not confined when it is privileged or sees the host’s processes or IPC, unless it asks for a label', async () => {
    const unconfined = 'system_u:system_r:spc_t:s0';
    const privileged = await podWith({ privileged: true });
    assert.equal(await firstLabel(await start({ privileged: true }, privileged)), unconfined);
    assert.match(await firstLabel(await start({}, privileged)), /:container_t:/);
    const asked = { privileged: true, selinuxOptions: { type: 'container_t', level: 's0:c5' } };
    assert.equal(await firstLabel(await start(asked, privileged)), 'system_u:system_r:container_t:s0:c5');
    for (const namespaceOptions of [{ pid: 'NODE' }, { ipc: 'NODE' }]) {
      const id = await start({ namespaceOptions }, await podWith({ namespaceOptions }));
      assert.equal(await firstLabel(id), unconfined);
    }
    assert.doesNotMatch(labelOf('/dev/shm'), /container_file_t/, 'the host’s is not labelled for one');
  });

  it('gives its label to all in a volume that it is asked to, and to nothing else', async () => {
    const [asked, plain] = [directory('asked'), directory('plain')];
    const before = labelOf(plain);
    const mounts = [
      { hostPath: asked, containerPath: '/asked', selinuxRelabel: true },
      { hostPath: plain, containerPath: '/plain' },
    ];
    const id = await start({}, undefined, { mounts });
    const { level } = context(await firstLabel(id));
    for (const path of ['', 'sub', 'sub/file'])
      assert.equal(labelOf(join(asked, path)), `system_u:object_r:container_file_t:${level}`);
    assert.equal(labelOf(plain), before);
    const etc = [{ hostPath: '/etc', containerPath: '/m', selinuxRelabel: true }];
    await refused(start({}, undefined, { mounts: etc }), 'INVALID_ARGUMENT', /label a directory of the system anew/);
  });

  it('of a person has volumes with the label that :z and :Z ask for, and named ones with the shared one', async () => {
    const [all, own, plain] = [directory('all'), directory('own'), directory('left')];
    const before = labelOf(plain);
    const volumes = [`${all}:/all:z`, `${own}:/own:Z`, `${plain}:/plain`, 'kept:/kept'].flatMap(text => ['-v', text]);
    const socket = join(node().daemon.state, 'berth.sock');
    const { stdout, stderr, code } = await berth(socket, [
      'run',
      '--rm',
      '--network',
      'none',
      ...volumes,
      node().box,
      ...LABEL,
    ]);
    assert.equal(code, 0, stderr);
    const { type, level } = context(trimmed(stdout));
    assert.equal(type, 'container_t');
    const file = 'system_u:object_r:container_file_t';
    assert.equal(labelOf(join(all, 'sub/file')), `${file}:s0`);
    assert.equal(labelOf(join(own, 'sub/file')), `${file}:${level}`);
    assert.equal(labelOf(plain), before);
    assert.equal(labelOf(join(node().daemon.root, 'volumes/kept/data')), `${file}:s0`);
    const disabled = await berth(socket, [
      'run',
      '--rm',
      '--network',
      'none',
      '--security-opt',
      'label=disable',
      node().box,
      ...LABEL,
    ]);
    assert.equal(context(trimmed(disabled.stdout)).type, 'spc_t', disabled.stderr);
    assert.equal((await berth(socket, ['volume', 'rm', 'kept'])).code, 0);
  });

  it('has its label on the volumes and the files of an image', async () => {
    const image = await node().pull(
      'volumes',
      busyboxImage({ config: { Cmd: ['sleep', '100000'], Volumes: { '/bin': {} } } }),
    );
    const mounts = [{ containerPath: '/image', image: { image: node().box } }];
    const id = await start({}, undefined, { image, mounts });
    const file = `system_u:object_r:container_file_t:${context(await firstLabel(id)).level}`;
    for (const path of ['/bin', '/bin/busybox', '/image', '/image/bin/busybox'])
      assert.equal(await fileLabel(id, path), file, path);
  });

  it('has it with no_new_privs, in a user namespace, and made by an OCI runtime', async () => {
    assert.match(await processLabel(await start({ noNewPrivs: true })), /:container_t:s0:c/);
    const ids = [{ containerId: 0, hostId: 300_000, length: 65_536 }];
    const namespaceOptions = { usernsOptions: { mode: 'POD', uids: ids, gids: ids } };
    const inUserNamespace = await start({ namespaceOptions }, await podWith({ namespaceOptions }));
    const label = await processLabel(inUserNamespace);
    assert.match(label, /:container_t:s0:c/);
    for (const path of ['/', '/dev/null', '/dev/pts', '/dev/shm', '/dev/mqueue', '/etc/hosts'])
      assert.equal(context(await fileLabel(inUserNamespace, path)).level, context(label).level, path);
    const config = node().podConfig();
    const { podSandboxId } = await node().client.call('RunPodSandbox', { config, runtimeHandler: 'crun' });
    const byCrun = await start({}, podSandboxId);
    assert.match(await processLabel(byCrun), /^system_u:system_r:container_t:s0:c/);
    for (const path of ['/', '/dev/null', '/dev/shm', '/etc/hosts'])
      assert.match(await fileLabel(byCrun, path), /:container_file_t:s0:c/, path);
    await node().client.call('StopContainer', { containerId: byCrun, timeout: 0 });
  });

  it('has a keyring that its processes may use', async () => {
    const dir = directory('probe');
    execFileSync('musl-gcc', ['-static', '-Os', '-o', join(dir, 'key'), '-x', 'c', '-'], { input: KEY_LABEL });
    const mounts = [{ hostPath: dir, containerPath: '/probe', selinuxRelabel: true }];
    const id = await start({}, undefined, { mounts });
    const label = await firstLabel(id);
    assert.equal(await node().exec(id, ['/probe/key']), `${label}\n`);
    const { stdout } = await node().run(['/probe/key'], { mounts });
    assert.match(stdout, /^system_u:system_r:container_t:s0:c/);
  });

  describe('that is enforced,', () => {
    const works = [
      'echo x > /dev/null && echo null',
      'echo x > /dev/shm/x && cat /dev/shm/x && echo shm',
      'cat /etc/hosts /etc/hostname > /dev/null && echo files',
      'mkdir /new && echo x > /new/file && rm -r /new && echo root',
      'sleep 1000 & kill -9 $! && echo signals',
      'mkfifo /p && (echo x > /p &) && cat /p && echo pipes',
    ];

    it('does what containers do, and its output arrives', async () => {
      enforce(true);
      const { stdout, stderr, status } = await node().run(['sh', '-c', works.join('\n')]);
      assert.equal(stdout, 'null\nx\nshm\nfiles\nroot\nsignals\nx\npipes\n', stderr + status.message);
      const id = await start();
      assert.equal(await node().exec(id, ['echo', 'run']), 'run\n');
      await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    });

    it('reaches its own volume and no other pod’s', async () => {
      const hostPath = directory('private');
      const owner = await start({}, undefined, { mounts: [{ hostPath, containerPath: '/m', selinuxRelabel: true }] });
      const other = await start({}, undefined, { mounts: [{ hostPath, containerPath: '/m' }] });
      const read = ['sh', '-c', 'cat /m/sub/file 2>&1 || echo refused'];
      enforce(true);
      assert.equal(await node().exec(owner, read), 'content\n');
      assert.match(await node().exec(other, read), /Permission denied\nrefused\n$/);
      enforce(false);
      assert.equal(await node().exec(other, read), 'content\n', 'it was SELinux that refused');
    });

    it('reaches nothing of the host’s that is not for containers, but does as spc_t', async () => {
      const mounts = [{ hostPath: '/etc', containerPath: '/host', readonly: true }];
      const confined = await start({}, undefined, { mounts });
      const free = await start({ privileged: true }, await podWith({ privileged: true }), { mounts });
      const read = ['sh', '-c', 'head -c 0 /host/shadow 2>&1 && echo read'];
      enforce(true);
      const { stdout } = await node().client.call('ExecSync', { containerId: confined, cmd: read, timeout: 60 });
      assert.match(stdout.toString(), /Permission denied/);
      assert.equal(await node().exec(free, read), 'read\n');
    });
  });
});
