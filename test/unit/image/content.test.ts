import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Content } from '../../../src/image/content/content';
import { Partials } from '../../../src/image/content/partials';
import { digestOf } from '../../../src/image/digest';

describe('what is removed', () => {
  const bytes = Buffer.from('a blob');
  const digest = digestOf(bytes);
  let root: string;
  beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'berth-content-'))));
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  it('of the content is not found by who looks in the same moment, and may come back in the next', async () => {
    const content = await Content.open(root);
    await content.ingest(digest, bytes.length, bytes, 'it');
    const removed = content.remove(digest);
    const [found, kept] = [content.read(digest), content.ingest(digest, bytes.length, bytes, 'it')];
    assert.equal(await found, undefined);
    await Promise.all([removed, kept]);
    assert.deepEqual(await content.read(digest), bytes);
    await content.remove(digest);
    await content.remove(digest);
    assert.deepEqual([await content.list(), readdirSync(join(root, 'ingest'))], [[], []]);
  });

  it('of beginnings is not gone on with, and what a kill leaves of it goes with the next start', async () => {
    const partials = await Partials.open(root);
    writeFileSync(join(root, digest.replace(':', '-')), bytes);
    const removed = partials.remove(digest);
    const partial = await partials.begin(digest, bytes.length);
    await removed;
    assert.equal(partial.sizeBytes, 0);
    await partial.close();
    assert.equal((await partials.list()).length, 1);
    writeFileSync(join(root, 'gone-1'), bytes);
    mkdirSync(join(root, 'of-nobody'));
    await Partials.open(root);
    assert.deepEqual(readdirSync(root).sort(), ['of-nobody', digest.replace(':', '-')].sort());
  });
});
