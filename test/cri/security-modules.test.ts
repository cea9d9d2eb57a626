import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { refused, useNode } from '../support/node';

const hasAppArmor =
  existsSync('/sys/module/apparmor/parameters/enabled') &&
  readFileSync('/sys/module/apparmor/parameters/enabled', 'utf8').startsWith('Y');
const hasSelinux = existsSync('/sys/fs/selinux/enforce');

describe('AppArmor and SELinux', function () {
  this.timeout(60_000);
  const node = useNode();
  const runs = async (security: Record<string, unknown>) => {
    const { stdout, status } = await node().run(['echo', 'ran'], { security });
    assert.equal(stdout, 'ran\n', status.message);
  };
  const create = async (security: Record<string, unknown>) => node().create(await node().pod(), { security });

  it('take the default profile on any host, and none', async () => {
    for (const apparmor of [{ profileType: 'RuntimeDefault' }, { profileType: 'Unconfined' }]) await runs({ apparmor });
    for (const apparmorProfile of ['', 'runtime/default', 'unconfined']) await runs({ apparmorProfile });
  });

  it('refuse a profile that is not on the node', async () => {
    const wanted = hasAppArmor ? /is not loaded on this node/ : /this node's kernel has no AppArmor enabled/;
    const apparmor = { profileType: 'Localhost', localhostRef: 'no-such-profile' };
    await refused(create({ apparmor }), 'FAILED_PRECONDITION', wanted);
    await refused(create({ apparmorProfile: 'localhost/no-such-profile' }), 'FAILED_PRECONDITION', wanted);
    await refused(
      create({ apparmorProfile: 'no-such-profile' }),
      'INVALID_ARGUMENT',
      /apparmor "no-such-profile" is not known/,
    );
  });

  it('refuse a label where there is no SELinux, but for the one that confines nothing', async () => {
    await runs({ selinuxOptions: {} });
    if (hasSelinux) return;
    const selinuxOptions = { type: 'my_t', level: 's0:c1,c2' };
    await refused(
      create({ selinuxOptions }),
      'FAILED_PRECONDITION',
      /SELinux label \*:\*:my_t:s0:c1,c2: SELinux is not enabled/,
    );
    await refused(
      node().pod({ linux: { securityContext: { privileged: false, selinuxOptions } } }),
      'FAILED_PRECONDITION',
      /SELinux is not enabled/,
    );
    await runs({ selinuxOptions: { type: 'spc_t', level: 's0' } });
  });
});

/** Prints the number of its session keyring, and how many keys are in it. */
const SESSION = `
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { GET_KEYRING_ID = 0, READ = 11, SESSION = -3 }; /* linux/keyctl.h */
int main(void)
{
    int keys[64];
    long id = syscall(SYS_keyctl, GET_KEYRING_ID, SESSION, 0);
    long bytes = syscall(SYS_keyctl, READ, SESSION, keys, sizeof keys);
    return printf("%ld %ld\\n", id, bytes) < 0;
}
`;

describe('the session keyring', function () {
  this.timeout(60_000);
  const node = useNode();

  it('of a container is its own, and empty, and so is that of what is run in it', async () => {
    const dir = join(node().daemon.dir, 'probe');
    mkdirSync(dir);
    const program = join(dir, 'session');
    execFileSync('musl-gcc', ['-static', '-Os', '-o', program, '-x', 'c', '-'], { input: SESSION });
    const mounts = [{ hostPath: dir, containerPath: '/probe', readonly: true }];
    const seen = [execFileSync(program, { encoding: 'utf8' })];
    const ids = [{ containerId: 0, hostId: 300_000, length: 65_536 }];
    for (const namespaceOptions of [{}, { usernsOptions: { mode: 'POD', uids: ids, gids: ids } }]) {
      const pod = await node().pod({ linux: { securityContext: { namespaceOptions } } });
      const security = { namespaceOptions };
      const { stdout } = await node().run(['/probe/session'], { pod, mounts, security });
      const id = await node().start(pod, { mounts, security });
      seen.push(stdout, await node().exec(id, ['/probe/session']));
    }
    const [, ...inside] = seen;
    for (const line of inside) assert.match(line, /^[1-9]\d* 0\n$/);
    assert.equal(new Set(seen).size, seen.length, seen.join(''));
  });
});
