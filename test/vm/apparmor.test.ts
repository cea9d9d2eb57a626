import './only-in-guest';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { refused, useNode } from '../support/node';

const PARSER = '/usr/sbin/apparmor_parser';
const PROFILES = '/sys/kernel/security/apparmor/profiles';

/** All is allowed but one path, also what has no path: the pipes of a log, say. */
const OWN = 'berth-test-own';
const OWN_TEXT = `profile ${OWN} flags=(attach_disconnected,mediate_deleted) {
  file, network, capability, signal, ptrace,
  deny /forbidden/** w,
}
`;

/** Sockets as most programs have them, and a user namespace; newer kernels have rules for these, which may forget some. */
const SOCKETS = `
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
int main(void)
{
    int pair[2];
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp.sock"};
    int stream = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(stream, (struct sockaddr *)&name, sizeof name) == 0 && listen(stream, 1) == 0)
        puts("unix");
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0)
        puts("unix");
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0)
        puts("inet");
    if (socket(AF_NETLINK, SOCK_RAW, 0) >= 0)
        puts("netlink");
    if (unshare(CLONE_NEWUSER) == 0)
        puts("userns");
    return 0;
}
`;

const LABEL = ['cat', '/proc/self/attr/apparmor/current'];
const DEFAULT_LABEL = 'berth-default (enforce)\n';
const OWN_LABEL = `${OWN} (enforce)\n`;
const UNCONFINED = 'unconfined\n';

const runtimeDefault = { apparmor: { profileType: 'RuntimeDefault' } };
const unconfined = { apparmor: { profileType: 'Unconfined' } };
const localhost = (localhostRef: string) => ({ apparmor: { profileType: 'Localhost', localhostRef } });

const parse = (option: string, input: string) => execFileSync(PARSER, [option, '--skip-cache'], { input });
const unload = (name: string) => parse('--remove', `profile ${name} {}\n`);
const isLoaded = (name: string) => readFileSync(PROFILES, 'utf8').includes(`${name} (`);

describe('on a node with AppArmor, a container', function () {
  this.timeout(60_000);
  before(() => {
    assert.match(readFileSync('/sys/kernel/security/lsm', 'utf8'), /apparmor/);
    parse('--replace', OWN_TEXT);
  });
  after(() => {
    for (const name of [OWN, 'berth-default']) if (isLoaded(name)) unload(name);
  });
  const node = useNode({ config: '[runtimes.crun]\npath = "/usr/bin/crun"\n' });

  const labelOf = async (security: Record<string, unknown>, options: object = {}) => {
    const { stdout, stderr, status } = await node().run(LABEL, { security, ...options });
    assert.equal(status.exitCode, 0, stderr + status.message);
    return stdout;
  };
  const sh = async (script: string, security: Record<string, unknown> = {}, options: object = {}) =>
    (await node().run(['sh', '-c', `${script}; exit 0`], { security, ...options })).stdout;
  const privilegedPod = () => node().pod({ linux: { securityContext: { privileged: true } } });
  const verbose = async (containerId: string) => {
    const { info } = await node().client.call('ContainerStatus', { containerId, verbose: true });
    return JSON.parse(info['info'] ?? '{}') as { runtimeSpec: { process: { apparmorProfile?: string } } };
  };

  it('has the default profile unless it asks for another, and so has what is run in it', async () => {
    const pod = await node().pod();
    for (const security of [{}, runtimeDefault, { apparmorProfile: 'runtime/default' }]) {
      const id = await node().start(pod, { security });
      assert.equal(await node().exec(id, LABEL), DEFAULT_LABEL);
      const ofFirst = readFileSync(`/proc/${await node().pidOf(id)}/attr/apparmor/current`, 'utf8');
      assert.equal(ofFirst, DEFAULT_LABEL);
      assert.equal((await verbose(id)).runtimeSpec.process.apparmorProfile, 'berth-default');
    }
    const { info } = await node().client.call('Status', { verbose: true });
    assert.equal(info['appArmor'], 'default profile berth-default');
  });

  it('has none when it asks for none', async () => {
    assert.equal(await labelOf(unconfined), UNCONFINED);
    assert.equal(await labelOf({ apparmorProfile: 'unconfined' }), UNCONFINED);
  });

  it('has a profile of the node’s, which holds for what is run in it, too', async () => {
    for (const security of [localhost(OWN), localhost(`localhost/${OWN}`), { apparmorProfile: `localhost/${OWN}` }])
      assert.equal(await labelOf(security), OWN_LABEL);
    const id = await node().start(await node().pod(), { security: localhost(OWN) });
    assert.equal(await node().exec(id, LABEL), OWN_LABEL);
    const write =
      'mkdir -p /forbidden /allowed; echo x > /allowed/x && echo fine; echo x > /forbidden/x || echo denied';
    assert.equal(await node().exec(id, ['sh', '-c', write]), 'fine\ndenied\n');
    assert.equal((await verbose(id)).runtimeSpec.process.apparmorProfile, OWN);
  });

  it('has it with no_new_privs, whoever it runs as, and in a user namespace', async () => {
    for (const security of [runtimeDefault, localhost(OWN)]) {
      const wanted = security === runtimeDefault ? DEFAULT_LABEL : OWN_LABEL;
      assert.equal(await labelOf({ ...security, noNewPrivs: true }), wanted);
      const nobody = { noNewPrivs: true, runAsUser: { value: '1234' }, capabilities: { dropCapabilities: ['ALL'] } };
      assert.equal(await labelOf({ ...security, ...nobody }), wanted);
      const ids = [{ containerId: 0, hostId: 300_000, length: 65_536 }];
      const namespaceOptions = { usernsOptions: { mode: 'POD', uids: ids, gids: ids } };
      const pod = await node().pod({ linux: { securityContext: { namespaceOptions } } });
      const id = await node().start(pod, { security: { ...security, namespaceOptions } });
      assert.equal(await node().exec(id, LABEL), wanted);
    }
  });

  it('that is privileged has what it names, and nothing else', async () => {
    const privileged = { privileged: true };
    const pod = await privilegedPod();
    assert.equal(await labelOf(privileged, { pod }), UNCONFINED);
    assert.equal(await labelOf({ ...privileged, ...runtimeDefault }, { pod }), UNCONFINED);
    assert.equal(await labelOf({ ...privileged, ...localhost(OWN) }, { pod }), OWN_LABEL);
  });

  it('may do under the default profile what containers do', async () => {
    const script = [
      'echo x > /dev/null && echo null',
      'echo x > /dev/shm/x && echo shm',
      'cat /etc/hosts /etc/hostname > /dev/null && echo files',
      'mkdir /new && echo x > /new/file && mv /new/file /new/moved && rm -r /new && echo root',
      'sleep 1000 & kill -0 $! && kill -9 $! && echo signals',
      'readlink /proc/1/exe > /dev/null && echo ptrace',
      'hostname > /dev/null && echo name',
      '/probe/sockets',
      'mkfifo /p && (echo x > /p &) && cat /p > /dev/null && echo pipes',
    ];
    const dir = join(node().daemon.dir, 'probe');
    mkdirSync(dir);
    execFileSync('musl-gcc', ['-static', '-Os', '-o', join(dir, 'sockets'), '-x', 'c', '-'], { input: SOCKETS });
    const mounts = [{ hostPath: dir, containerPath: '/probe', readonly: true }];
    const { stdout, stderr } = await node().run(['sh', '-c', script.join('\n')], { security: runtimeDefault, mounts });
    const all = 'null shm files root signals ptrace name unix unix inet netlink userns pipes'.split(' ');
    assert.deepEqual(stdout.trim().split('\n'), all, stderr);
  });

  it('hears the signal that stops it, and is killed when it does not', async () => {
    const polite = ['sh', '-c', 'trap "exit 7" TERM; while :; do sleep 1; done'];
    const id = await node().start(await node().pod(), { command: polite, security: runtimeDefault });
    await node().client.call('StopContainer', { containerId: id, timeout: 30 });
    assert.equal((await node().status(id)).exitCode, 7);
    const deaf = await node().start(await node().pod(), { security: runtimeDefault });
    await node().client.call('StopContainer', { containerId: deaf, timeout: 0 });
    assert.equal((await node().status(deaf)).exitCode, 137);
  });

  it('is held by the default profile where nothing else holds it', async () => {
    const open = {
      seccomp: { profileType: 'Unconfined' },
      capabilities: { addCapabilities: ['ALL'] },
      maskedPaths: ['/no'],
      readonlyPaths: ['/no'],
    };
    const script = [
      'mkdir -p /m && mount -t tmpfs none /m 2>/dev/null && echo mounted',
      'cat /proc/sys/vm/swappiness > /tmp/v; cat /tmp/v > /proc/sys/vm/swappiness && echo sysctl',
      'cat /proc/sys/kernel/core_pattern > /tmp/v; cat /tmp/v > /proc/sys/kernel/core_pattern && echo core_pattern',
      '(: < /proc/kcore) && echo kcore',
      '(: > /proc/sysrq-trigger) && echo sysrq',
    ].join('; ');
    const tried = async (apparmor: Record<string, unknown>) =>
      (await sh(`mkdir -p /tmp; ${script}`, { ...open, ...apparmor })).trim().split('\n');
    assert.deepEqual(await tried(runtimeDefault), ['']);
    const withOut = await tried(unconfined);
    for (const what of ['mounted', 'sysctl', 'core_pattern', 'kcore', 'sysrq']) assert.ok(withOut.includes(what), what);
  });

  it('is not made with a profile that is not loaded, and not started when it has gone', async () => {
    const wanted = /AppArmor profile no-such-profile is not loaded on this node/;
    const pod = await node().pod();
    for (const security of [localhost('no-such-profile'), { apparmorProfile: 'localhost/no-such-profile' }])
      await refused(node().create(pod, { security }), 'FAILED_PRECONDITION', wanted);
    assert.deepEqual((await node().client.call('ListContainers')).containers, []);
    parse('--replace', OWN_TEXT.replaceAll(OWN, `${OWN}-2`));
    const id = await node().create(pod, { security: localhost(`${OWN}-2`) });
    unload(`${OWN}-2`);
    const gone = new RegExp(`AppArmor profile ${OWN}-2: it is not loaded on this node any more`);
    await refused(node().client.call('StartContainer', { containerId: id }), 'FAILED_PRECONDITION', gone);
    const { state, message } = await node().status(id);
    assert.equal(state, 'CONTAINER_EXITED');
    assert.match(message, gone);
  });

  it('gets the default profile again after somebody has unloaded it, as aa-remove-unknown does', async () => {
    assert.equal(await labelOf(runtimeDefault), DEFAULT_LABEL);
    unload('berth-default');
    assert.equal(await labelOf(runtimeDefault), DEFAULT_LABEL);
  });

  it('that OCI runtimes make has it as well', async () => {
    const crunPod = async () =>
      (await node().client.call('RunPodSandbox', { config: node().podConfig(), runtimeHandler: 'crun' })).podSandboxId;
    for (const [security, wanted] of [
      [runtimeDefault, DEFAULT_LABEL],
      [localhost(OWN), OWN_LABEL],
      [unconfined, UNCONFINED],
    ] as const) {
      const id = await node().start(await crunPod(), { security });
      assert.equal(await node().exec(id, LABEL), wanted);
      await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    }
  });

  it('is told when the node cannot load the default profile, and runs without it if it has not asked', async () => {
    assert.ok(existsSync(PARSER));
    if (isLoaded('berth-default')) unload('berth-default');
    renameSync(PARSER, `${PARSER}.away`);
    try {
      const pod = await node().pod();
      const why =
        /RuntimeDefault: berth-default cannot be loaded: this node has no apparmor_parser .*install the package/;
      for (const security of [runtimeDefault, { apparmorProfile: 'runtime/default' }])
        await refused(node().create(pod, { security }), 'FAILED_PRECONDITION', why);
      assert.equal(await labelOf({}, { pod }), UNCONFINED);
      const { info } = await node().client.call('Status', { verbose: true });
      assert.match(info['appArmor'] ?? '', /no apparmor_parser/);
    } finally {
      renameSync(`${PARSER}.away`, PARSER);
    }
    assert.equal(await labelOf(runtimeDefault), DEFAULT_LABEL);
  });
});
