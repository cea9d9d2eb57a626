import assert from 'node:assert/strict';
import { ManifestReader, type ManifestEntry } from '../../../../src/cli/explore/manifest';
import { nameText, shownName } from '../../../../src/cli/explore/names';
import { Paths } from '../../../../src/cli/explore/paths';
import { directory, file, link, manifestOf } from './layers';

function read(text: string, pieceBytes = text.length): string[] {
  const seen: string[] = [];
  const note = (what: string) => (entry: ManifestEntry) => void seen.push(`${what} ${entry.name} ${entry.sizeBytes}`);
  const reader = new ManifestReader('made-up', { enter: note('d'), put: note('-'), leave: () => void seen.push('u') });
  for (let at = 0; at < text.length; at += pieceBytes) reader.take(Buffer.from(text.slice(at, at + pieceBytes)));
  reader.end();
  return seen;
}

describe("a layer's manifest", () => {
  const text = manifestOf(directory({ a: file(7), d: directory({ b: link('c%20d') }) }));
  const objects = ['d . 0', '- a 7', 'd d 0', '- b 0', 'u', 'u'];

  it('is read in pieces of any length', () => {
    for (const length of [1, 7, 64, text.length]) assert.deepEqual(read(text, length), objects);
  });

  it('is refused when it is cut off, goes on after its end, or is something else', () => {
    const damaged = /the list of the files of layer made-up is cut off or not one of berth's/;
    for (let length = 0; length < text.length; length++) assert.throws(() => read(text.slice(0, length)), damaged);
    for (const wrong of [
      `${text}u\n`,
      text.replace('manifest 1', 'manifest 2'),
      text.replace('\nu\n', '\n'),
      `u\n${text}`,
    ])
      assert.throws(() => read(wrong), damaged);
    assert.throws(() => read(text.replace(/end 4/, 'end 5')), damaged);
    assert.throws(() => read(text.replace('\nl ', '\nx ')), damaged);
    assert.throws(() => read(`berth-manifest 1\n${'x'.repeat(70_000)}`), damaged);
  });

  it('has names that cannot steer a terminal', () => {
    assert.equal(shownName('a%1b[2Jb%0a'), 'a\\u001b[2Jb\\n');
    assert.equal(shownName('%e2%80%aeevil'), '\\u202eevil');
    assert.equal(shownName('gr%c3%bc%c3%9fe%20%25'), 'grüße %');
    assert.equal(shownName('%ff%fe-%1b'), '\\xff\\xfe-\\u001b');
    assert.equal(nameText('a%1bb'), 'a\u001bb');
  });
});

describe('paths by number', () => {
  it('are found again, however many there are', () => {
    const paths = new Paths();
    const made = new Map<string, number>();
    for (let d = 0; d < 50; d++) {
      const dir = paths.child(0, `d${d}`);
      for (let f = 0; f < 100; f++) made.set(`/d${d}/f${f}`, paths.child(dir, `f${f}`));
    }
    assert.equal(paths.count, 1 + 50 + 5000);
    for (const [name, path] of made) assert.equal(paths.fullName(path), name);
    assert.equal(paths.child(paths.child(0, 'd7'), 'f9'), made.get('/d7/f9'));
    assert.equal([...paths.childrenOf(paths.child(0, 'd7'))].length, 100);
    assert.equal(paths.count, 5051);
  });
});
