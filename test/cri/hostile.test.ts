import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxImage } from '../support/image-builder';
import { snapshot } from '../support/leaks';
import { useNode } from '../support/node';

describe('containers that mean no good, and disks that are full', function () {
  this.timeout(60_000);
  const node = useNode();
  const shared = (name: string) => {
    const dir = join(node().daemon.dir, name);
    mkdirSync(dir, { recursive: true });
    return dir;
  };

  it('cannot write to the helper while commands are started in them', async () => {
    const script = 'while :; do for p in /proc/[0-9]*/exe; do (echo x >> $p) 2>/dev/null && echo wrote $p; done; done';
    const pod = await node().pod();
    const id = await node().start(pod, {
      command: ['sh', '-c', script],
      security: { capabilities: { addCapabilities: ['SYS_PTRACE'] } },
    });
    for (let i = 0; i < 40; i++) assert.equal(await node().exec(id, ['echo', 'hi']), 'hi\n');
    assert.deepEqual(await node().logLines(id), []);
    assert.equal((await node().run(['echo', 'fine'], { pod })).stdout, 'fine\n');
  });

  it('cannot send a mount to the host by swapping a link for its place', async () => {
    const [volume, target, source] = [shared('volume'), shared('target'), shared('source')];
    writeFileSync(join(source, 'file'), 'from the source');
    const pod = await node().pod();
    const swap = `mkdir -p /vol/d; ln -s ${target} /vol/l; while :; do mv -T /vol/l /vol/x; mv -T /vol/x /vol/l; mv -T /vol/d /vol/x; mv -T /vol/x /vol/d; done 2>/dev/null`;
    const volumeMount = { containerPath: '/vol', hostPath: volume };
    await node().start(pod, { command: ['sh', '-c', swap], mounts: [volumeMount] });
    const before = snapshot(node().daemon).mounts;
    let ran = 0;
    for (let i = 0; i < 60; i++) {
      const mounts = [volumeMount, { containerPath: `/vol/x/place${i}`, hostPath: source }];
      const id = await node()
        .create(pod, { mounts })
        .catch(() => undefined);
      if (id === undefined) continue;
      ran++;
      await node().client.call('RemoveContainer', { containerId: id });
    }
    assert.ok(ran > 0);
    assert.deepEqual(readdirSync(target), []);
    assert.deepEqual(snapshot(node().daemon).mounts, before);
  });

  it('are not stopped by a full disk under their log, and the loss is told', async () => {
    const logDirectory = shared('full');
    const inside = (...command: string[]) =>
      execFileSync('nsenter', [`--mount=/proc/${node().daemon.holderPid}/ns/mnt`, ...command], { encoding: 'utf8' });
    inside('mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', logDirectory);
    try {
      const pod = await node().pod({ logDirectory });
      const script =
        'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "line $i of a log that is too long for its disk"; done; exit 8';
      const id = await node().start(pod, { command: ['sh', '-c', script] });
      const { exitCode, message, logPath } = await node().exit(id);
      assert.equal(exitCode, 8);
      assert.match(message, /^\d+ bytes of output could not be written to the log$/);
      const lines = inside('cat', logPath).split('\n');
      assert.ok(lines.length > 500);
      assert.match(lines[0] ?? '', / stdout F line 1 of/);
      await node().client.call('RemovePodSandbox', { podSandboxId: pod });
    } finally {
      inside('umount', '-l', logDirectory);
    }
  });

  it('cannot stop the daemon, or their own end, by holding the locks of their output', async () => {
    const dir = shared('splice');
    const source = `#define _GNU_SOURCE
      #include <fcntl.h>
      #include <sys/socket.h>
      #include <unistd.h>
      int main(int n, char **v) { int s[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, s);
        if (n == 1) write(1, "x", 1); else close(creat(v[1], 0600)); splice(s[0], 0, 1, 0, 65536, 0); }`;
    execFileSync('gcc', ['-static', '-w', '-x', 'c', '-', '-o', join(dir, 'hold')], { input: source });
    const pod = await node().pod();
    const mounts = [{ containerPath: '/splice', hostPath: dir }];
    const id = await node().start(pod, { mounts });
    const held = node().client.call('ExecSync', { containerId: id, cmd: ['/splice/hold'], timeout: 5 });
    const outcome = held.then(() => 'answered', String);
    // One that says nothing, and is left behind.
    const cmd = ['sh', '-c', '/splice/hold /held & while [ ! -e /held ]; do usleep 1000; done; usleep 50000'];
    const left = node().client.call('ExecSync', { containerId: id, cmd, timeout: 60 }, 120_000);
    for (let i = 0; i < 20; i++) {
      const begun = performance.now();
      await node().client.call('Version', {});
      assert.ok(performance.now() - begun < 4000);
      await new Promise(resolve => setTimeout(resolve, 50));
    }
    assert.match(await outcome, /did not end within 5 s/);
    assert.equal((await left).exitCode, 0);
    const holder = await node().start(pod, { command: ['/splice/hold'], mounts });
    await node().client.call('StopContainer', { containerId: holder, timeout: 1 });
    assert.equal((await node().status(holder)).state, 'CONTAINER_EXITED');
    await node().client.call('RemovePodSandbox', { podSandboxId: pod });
  });

  it('open no device that they or their image made and were not given, wherever it lies', async () => {
    const volume = shared('nodes');
    // The host's kernel log, its memory, and a disk's kind: nodes may be made, as in other runtimes, and lead nowhere.
    const script = `for d in / /dev /vol; do
      mknod $d/kmsg c 1 11 && head -c 1 $d/kmsg >/dev/null 2>&1 && echo opened $d/kmsg
      mknod $d/mem c 1 1 && head -c 1 $d/mem >/dev/null 2>&1 && echo opened $d/mem
      mknod $d/loop b 7 0 && head -c 1 $d/loop >/dev/null 2>&1 && echo opened $d/loop
    done; head -c 1 /dev/zero | wc -c`;
    const mounts = [{ containerPath: '/vol', hostPath: volume }];
    const { stdout } = await node().run(['sh', '-c', script], { mounts });
    assert.equal(stdout.trim(), '1');
  });

  it("cannot change the host's /dev/null, which hides what they must not see, nor that which is their stdin", async () => {
    const before = statSync('/dev/null', { bigint: true });
    const script = `for f in /proc/self/fd/0 /proc/kcore /proc/keys /proc/timer_list; do [ -e $f ] && echo $f
      touch -d '2001-02-03 04:05' $f 2>/dev/null && echo touched $f
    done; readlink /proc/self/fd/0; stat -L -c '%a %u %t:%T' /proc/self/fd/0; echo x >&0; cat; cat /proc/self/fd/0; echo end`;
    const id = await node().start(await node().pod());
    for (const text of [(await node().run(['sh', '-c', script])).stdout, await node().exec(id, ['sh', '-c', script])]) {
      assert.match(text, /^\/proc\/self\/fd\/0\n(\/proc\/\w+\n)+\/dev\/null\n666 0 1:3\nend\n$/);
    }
    const after = statSync('/dev/null', { bigint: true });
    assert.deepEqual([after.mtimeNs, after.mode, after.uid], [before.mtimeNs, before.mode, before.uid]);
  });

  it("find nothing of the host behind the init of their pod's PID namespace", async () => {
    const id = await node().start(await node().pod(), {
      security: { capabilities: { addCapabilities: ['SYS_PTRACE'] } },
    });
    assert.equal(await node().exec(id, ['sh', '-c', 'ls -A /proc/1/root/ 2>/dev/null; true']), '');
    assert.match(await node().exec(id, ['grep', 'CapBnd', '/proc/1/status']), /0{16}/);
  });

  it('have a session keyring each, and none of the daemon’s', async () => {
    const dir = shared('keys');
    const source = `#include <stdio.h>
      #include <sys/syscall.h>
      #include <unistd.h>
      int main() { printf("%ld\\n", syscall(SYS_keyctl, 0, -3, 0)); return 0; }`;
    const program = join(dir, 'keyring');
    execFileSync('gcc', ['-static', '-w', '-x', 'c', '-', '-o', program], { input: source });
    const pod = await node().pod();
    const mounts = [{ containerPath: '/keys', hostPath: dir }];
    const command = ['/keys/keyring'];
    const id = await node().start(pod, { mounts });
    const rings = [
      execFileSync(program, { encoding: 'utf8' }), // the daemon's, which has it from here
      (await node().run(command, { pod, mounts })).stdout,
      (await node().run(command, { pod, mounts })).stdout,
      await node().exec(id, command),
    ];
    for (const ring of rings) assert.match(ring, /^[1-9]\d*\n$/);
    assert.equal(new Set(rings).size, rings.length, rings.join());
  });

  it('cannot make the starts of others fail by renaming files all the time', async () => {
    const pod = await node().pod();
    await node().start(pod, { command: ['sh', '-c', 'cd /tmp; touch a; while :; do mv a b; mv b a; done'] });
    const link = { path: 'var/run', type: 'symlink', link: '../run' } as const;
    const image = await node().pull('links', busyboxImage({ extraLayers: [[link]] }));
    const mounts = [{ containerPath: '/var/run/secrets/token', hostPath: shared('token') }];
    for (let i = 0; i < 20; i++)
      assert.equal((await node().run(['echo', 'hi'], { pod, image, mounts })).stdout, 'hi\n');
  });

  it('cannot reach the sockets and files of the daemon', async () => {
    const options = { network: 'NODE' };
    const pod = await node().pod({ linux: { securityContext: { namespaceOptions: options } } });
    const id = await node().start(pod, { security: { namespaceOptions: options } });
    const unix = await node().exec(id, ['cat', '/proc/net/unix']);
    assert.ok(unix.includes(node().daemon.socket), 'it shares the network');
    assert.doesNotMatch(unix, /@.*berth/);
    assert.doesNotMatch(await node().exec(id, ['cat', '/proc/mounts']), /\/state\//);
    const pid = await node().pidOf(id);
    assert.equal(readFileSync(`/proc/${pid}/environ`, 'utf8').includes('NODE'), false);
  });

  it('cannot fork without end where the memory limit holds them', async () => {
    const pod = await node().pod();
    const bomb = await node().start(pod, {
      command: ['sh', '-c', 'i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; wait'],
    });
    await node().client.call('StopContainer', { containerId: bomb, timeout: 0 });
    const watcher = await node().start(pod);
    const processes = await node().exec(watcher, ['ps']);
    assert.ok((processes.match(/sleep 1000/g) ?? []).length <= 1, 'all 300 are gone');
  });
});
