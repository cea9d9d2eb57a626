import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  constants,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NewFile } from '../../../src/cli/new-file';

describe('a file that has its name once it is whole', () => {
  let dir: string;
  let path: string;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'berth-new-file-'));
    path = join(dir, 'app.tar');
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('takes the place of the one before at its end, also behind a link', async () => {
    writeFileSync(path, 'old');
    symlinkSync('app.tar', join(dir, 'link'));
    {
      await using file = await NewFile.open(join(dir, 'link'));
      await file.write(Buffer.from('ne'));
      await file.write(Buffer.from('w'));
      assert.equal(readFileSync(path, 'utf8'), 'old');
      await file.end();
    }
    assert.equal(readFileSync(path, 'utf8'), 'new');
    assert.deepEqual(readdirSync(dir).sort(), ['app.tar', 'link']);
  });

  it('leaves the one before as it was, and nothing else, when it does not come to its end', async () => {
    writeFileSync(path, 'old');
    {
      await using file = await NewFile.open(path);
      await file.write(Buffer.from('half'));
    }
    assert.equal(readFileSync(path, 'utf8'), 'old');
    assert.deepEqual(readdirSync(dir), ['app.tar']);
  });

  it('writes to what is no plain file as it is', async () => {
    execFileSync('mkfifo', [path]);
    await using reader = await open(path, constants.O_RDWR);
    {
      await using file = await NewFile.open(path);
      await file.write(Buffer.from('piped'));
      await file.end();
    }
    assert.ok(statSync(path).isFIFO());
    assert.equal((await reader.read(Buffer.alloc(16), 0, 5)).buffer.toString('utf8', 0, 5), 'piped');
  });

  it('refuses a directory and a place that is not there, and says which', async () => {
    await assert.rejects(NewFile.open(dir), {
      kind: 'failed_precondition',
      message: `write ${dir}: it is a directory`,
    });
    await assert.rejects(NewFile.open(join(dir, 'no/app.tar')), {
      kind: 'failed_precondition',
      message: /no\/app\.tar/,
    });
  });
});
