import assert from 'node:assert/strict';
import { busyboxImage } from '../../support/image-builder';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('what changed and what was built, with a real daemon', function () {
  this.timeout(240_000);

  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(image);
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));

  it('diff shows what a container added, changed and deleted, and nothing of its mounts', async () => {
    const script =
      'mkdir -p /new/sub; echo x > /new/sub/file; ln -s /etc /new/link; echo >> /etc/passwd; rm /etc/group';
    await daemon.ok('run', '--name', 'changed', '-v', `${daemon.folder}:/mounted/here`, image, 'sh', '-c', script);
    const lines = ['C /etc', 'D /etc/group', 'C /etc/passwd', 'A /new', 'A /new/link', 'A /new/sub', 'A /new/sub/file'];
    assert.equal(await daemon.ok('diff', 'changed'), `${lines.join('\n')}\n`);
    await daemon.ok('run', '--name', 'same', image, 'true');
    assert.equal(await daemon.ok('diff', 'same'), '');
    const { code, stderr } = await daemon.berth('diff', 'nobody');
    assert.deepEqual([code, stderr], [1, 'berth: no container is called "nobody"\n']);
  });

  it('history shows the steps of an image, the last first', async () => {
    const built = busyboxImage();
    const table = await daemon.ok('history', image);
    assert.match(table, /^IMAGE +CREATED +CREATED BY +SIZE +COMMENT\n/);
    const rows = (await daemon.ok('history', '--no-trunc', '--format', '{{.ID}} {{.Size}}', image)).trim().split('\n');
    assert.match(rows[0] ?? '', new RegExp(`^${built.id} `));
    assert.equal(await daemon.ok('image', 'history', '-q', image), `${built.id.slice(7, 19)}\n<missing>\n`);
  });
});
