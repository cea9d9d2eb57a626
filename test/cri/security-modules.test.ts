import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
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
