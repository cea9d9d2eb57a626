import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
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
import { repoRoot } from '../../support/repo';

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

  it('is as open to others as the one before, and as the umask says where there was none', async () => {
    const umask = process.umask(0o027);
    try {
      for (const [name, mode] of [
        ['app.tar', undefined],
        ['private', 0o600],
        ['shared', 0o666],
      ] as const) {
        const at = join(dir, name);
        if (mode !== undefined) writeFileSync(at, 'old');
        if (mode !== undefined) chmodSync(at, mode);
        {
          await using file = await NewFile.open(at);
          await file.write(Buffer.from('new'));
          await file.end();
        }
        assert.equal(statSync(at).mode & 0o7777, mode ?? 0o640, name);
      }
    } finally {
      process.umask(umask);
    }
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

  it('leaves nothing half-written when a signal ends the process', async () => {
    writeFileSync(path, 'old');
    const script = `
      const { NewFile } = require('./dist/src/cli/new-file.js');
      NewFile.open(process.argv[1]).then(async file => {
        await file.write(Buffer.from('half'));
        console.log('written');
        setInterval(() => undefined, 1000);
      });`;
    const child = spawn(process.execPath, ['-e', script, path], {
      cwd: repoRoot,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'close');
    await once(child.stdout, 'data');
    assert.equal(readdirSync(dir).length, 2);
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [null, 'SIGTERM']);
    assert.deepEqual([readdirSync(dir), readFileSync(path, 'utf8')], [['app.tar'], 'old']);
  }).timeout(60_000);

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
