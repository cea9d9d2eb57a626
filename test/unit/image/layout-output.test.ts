import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { digestOf, hexOf } from '../../../src/image/digest';
import { LayoutOutput } from '../../../src/image/layout-output';

describe('a layout that is written', () => {
  const ctx = Context.of(silentLogger);
  const bytes = Buffer.from('a blob');
  const digest = digestOf(bytes);
  let folder: string;
  let path: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'berth-layout-'));
    path = join(folder, 'a/b');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const write = (work: (output: LayoutOutput) => Promise<void>, own = ctx) => LayoutOutput.during(own, path, work);
  const blob = () => join(path, 'blobs/sha256', hexOf(digest));

  it('has its files once it is committed, and replaces those of before', async () => {
    for (const text of ['one', 'two'])
      await write(async output => {
        await output.writeBlob(digest, [bytes]);
        await output.write('index.json', [Buffer.from(text)]);
        assert.equal((await output.read('index.json'))?.toString(), text);
        assert.ok(await output.hasBlob(digest, bytes.length));
        assert.ok(!(await output.hasBlob(digest, 1)));
        output.commit();
      });
    assert.equal(readFileSync(join(path, 'index.json'), 'utf8'), 'two');
    assert.deepEqual(readFileSync(blob()), bytes);
    assert.deepEqual(readdirSync(path).sort(), ['blobs', 'index.json']);
  });

  it('leaves nothing of what failed, was cut off or was not committed, and all that was there', async () => {
    const failing = async function* (): AsyncGenerator<Buffer> {
      yield bytes;
      throw new Error('it breaks');
    };
    const cut = new AbortController();
    const ended = Context.of(silentLogger, { signal: cut.signal });
    const attempts: (() => Promise<void>)[] = [
      () => write(output => output.writeBlob(digest, [bytes])),
      () =>
        assert.rejects(
          write(async output => output.writeBlob(digest, failing())),
          /write to .*: it breaks/,
        ),
      () =>
        assert.rejects(
          write(async output => {
            await output.writeBlob(digest, [bytes]);
            cut.abort();
            await output.write('index.json', [bytes]);
          }, ended),
          { kind: 'cancelled' },
        ),
    ];
    for (const attempt of attempts) {
      await attempt();
      assert.deepEqual(readdirSync(folder), []);
    }
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, 'mine'), '');
    for (const attempt of attempts) {
      await attempt();
      assert.deepEqual(readdirSync(path), ['mine']);
    }
  });

  it('is not reached through links, whoever made them', async () => {
    const outside = join(folder, 'outside');
    mkdirSync(join(outside, 'sha256'), { recursive: true });
    writeFileSync(join(outside, 'file'), 'kept');
    mkdirSync(path, { recursive: true });
    const blobs = join(path, 'blobs');
    const attempt = () =>
      write(async output => {
        await output.writeBlob(digest, [bytes]);
        output.commit();
      });
    symlinkSync(outside, blobs);
    await assert.rejects(attempt(), /blobs: it is no directory/);
    rmSync(blobs);
    mkdirSync(blobs);
    symlinkSync(join(outside, 'sha256'), join(blobs, 'sha256'));
    await assert.rejects(attempt(), /blobs\/sha256: it is no directory/);
    rmSync(join(blobs, 'sha256'));
    mkdirSync(join(blobs, 'sha256'));
    symlinkSync(join(outside, 'file'), blob());
    symlinkSync(join(outside, 'file'), join(path, 'index.json'));
    await assert.rejects(
      write(async output => void (await output.read('index.json'))),
      /index\.json: it is a link/,
    );
    await attempt(); // in the place of the link
    assert.deepEqual(readFileSync(blob()), bytes);
    assert.deepEqual(readdirSync(outside).sort(), ['file', 'sha256']);
    assert.deepEqual(readdirSync(join(outside, 'sha256')), []);
    assert.equal(readFileSync(join(outside, 'file'), 'utf8'), 'kept');
  });

  it('does not wait for who writes into a FIFO, and reads no document that is too long', async () => {
    mkdirSync(path, { recursive: true });
    execFileSync('mkfifo', [join(path, 'index.json')]);
    const read = () => write(async output => void (await output.read('index.json')));
    await assert.rejects(read(), /it is not a regular file/);
    rmSync(join(path, 'index.json'));
    writeFileSync(join(path, 'index.json'), '');
    execFileSync('truncate', ['-s', '5M', join(path, 'index.json')]);
    await assert.rejects(read(), /index\.json is 5242880 bytes long/);
    assert.ok(existsSync(path));
  });

  it('goes without what a daemon that was killed has half written, and what is being written elsewhere stays', async () => {
    await write(async output => {
      await output.writeBlob(digest, [bytes]);
      output.commit();
    });
    const old = [`${blob()}.0123456789abcdef`, join(path, 'index.json.0123456789abcdef')];
    const others = [`${blob()}.fedcba9876543210`, `${blob()}.notes`, join(path, 'mine.0123456789abcdef')];
    for (const name of [...old, ...others]) writeFileSync(name, '');
    symlinkSync('/dev/null', `${blob()}.1111111111111111`);
    const longAgo = new Date(Date.now() - 2 * 60 * 60 * 1000);
    for (const name of [...old, others[1] ?? '', others[2] ?? '']) utimesSync(name, longAgo, longAgo);
    await write(async output => {
      assert.ok(await output.hasBlob(digest, bytes.length));
    });
    assert.deepEqual(
      [...old, ...others, blob()].filter(name => existsSync(name)),
      [...others, blob()],
    );
  });

  it('is named in errors as people know it', async () => {
    mkdirSync(join(path, 'blobs/sha256', hexOf(digest)), { recursive: true });
    await assert.rejects(
      write(output => output.writeBlob(digest, [bytes])),
      ({ message }: Error) => message.includes(`-> '${blob()}'`) && !message.includes('/proc/'),
    );
  });
});
