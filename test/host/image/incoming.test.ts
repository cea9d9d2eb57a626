import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger, type Logger } from '../../../src/base/log';
import { Incoming } from '../../../src/image/incoming';
import { tempFolder } from '../../support/temp';

describe('directories for what comes from outside', () => {
  const { path } = tempFolder();
  const said: string[] = [];
  const log: Logger = { ...silentLogger, warn: text => said.push(text) };
  const fill = (dir: string) => {
    mkdirSync(join(dir, 'a'));
    writeFileSync(join(dir, 'a/file'), 'x');
  };

  it('go behind the answer, which need not wait for that', async () => {
    const incoming = await Incoming.open(path('incoming'), log);
    let after = false;
    const work = async (dir: string) => (fill(dir), dir);
    const dir = await incoming.answeringFirst(work, async () => void (after = !existsSync(dir)));
    assert.equal(after, false);
    await incoming.settled();
    assert.equal(after, true, 'what is done afterwards finds the directory gone');
    assert.deepEqual(readdirSync(path('incoming')), []);
  });

  it('go before a failure is told', async () => {
    const incoming = await Incoming.open(path('incoming'), log);
    let after = false;
    const work = async (dir: string) => {
      fill(dir);
      throw new Error('it failed');
    };
    await assert.rejects(
      incoming.answeringFirst(work, async () => void (after = true)),
      /it failed/,
    );
    assert.equal(after, true);
    assert.deepEqual(readdirSync(path('incoming')), []);
  });

  it('are said to be left where they cannot be removed, and what comes afterwards is done', async () => {
    const incoming = await Incoming.open(path('incoming'), log);
    let after = false;
    const work = async (dir: string) => {
      rmSync(path('incoming'), { recursive: true });
      writeFileSync(path('incoming'), 'no directory any more');
      return dir;
    };
    const dir = await incoming.answeringFirst(work, async () => void (after = true));
    await incoming.settled();
    assert.equal(after, true);
    assert.match(said.join('\n'), new RegExp(`could not remove ${dir}: .*it is tried again at the next start`));
  });

  it('that a daemon has left are gone at the next start', async () => {
    mkdirSync(path('incoming/left'), { recursive: true });
    fill(path('incoming/left'));
    await Incoming.open(path('incoming'), log);
    assert.deepEqual(readdirSync(path('incoming')), []);
  });
});
