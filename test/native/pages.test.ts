import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { addon } from '../../src/native/addon';

/** Read-only private mappings of Node's own file: kB that are there, and of these what the file has not. */
function ofProgram(): { resident: number; own: number }[] {
  const found: { resident: number; own: number }[] = [];
  let isOfProgram = false;
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const first = /^[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \S+ +(.*)$/.exec(line);
    if (first) {
      isOfProgram = first[1]?.[1] === '-' && first[1].endsWith('p') && first[2] === process.execPath;
      if (isOfProgram) found.push({ resident: 0, own: 0 });
      continue;
    }
    const mapping = found.at(-1);
    const count = Number(/\d+/.exec(line)?.[0]);
    if (!isOfProgram || !mapping) continue;
    if (line.startsWith('Rss:')) mapping.resident = count;
    if (line.startsWith('Anonymous:')) mapping.own = count;
  }
  return found;
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);

describe('pages of the program', () => {
  it('are let go of where they are as in its file, and come back', async () => {
    const before = ofProgram();
    await addon().releasePages();
    const after = ofProgram();
    const residentOf = (mappings: { resident: number }[]) => sum(mappings.map(({ resident }) => resident));
    assert.ok(residentOf(after) < residentOf(before) / 2, JSON.stringify({ before, after }));
    // What the loader has written is not in the file.
    assert.ok(sum(before.map(({ own }) => own)) > 0);
    assert.deepEqual(
      after.map(({ own }) => own),
      before.map(({ own }) => own),
    );
    assert.deepEqual(JSON.parse(JSON.stringify({ still: ['here'] })), { still: ['here'] });
  });
});
