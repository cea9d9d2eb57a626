import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { ignoreLines, IgnorePatterns } from '../../../src/base/patterns';
import { contextTar } from '../../../src/cli/context-tar';
import { tempFolder } from '../../support/temp';

describe('the tar of a build context', () => {
  const { path, write } = tempFolder();

  async function tarOf(ignored = ''): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of contextTar(path('in'), new IgnorePatterns(ignoreLines(ignored)))) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  /** By a tar that is not ours. */
  function unpacked(tar: Buffer): string {
    mkdirSync(path('out'));
    execFileSync('tar', ['-xpf', '-', '-C', path('out')], { input: tar, stdio: ['pipe', 'ignore', 'inherit'] });
    return path('out');
  }

  it('has files, directories, links and FIFOs as they are, whatever their size and name', async () => {
    const long = `${'d'.repeat(60)}/${'é'.repeat(90)}`;
    const big = 'a line of a file that is more than a piece\n'.repeat(20_000);
    write('in/big', big);
    write('in/empty', '');
    write('in/block', 'b'.repeat(512));
    write(`in/${long}`, 'long');
    symlinkSync('t'.repeat(150), path('in/link'));
    execFileSync('mkfifo', ['-m', '640', path('in/fifo')]);
    mkdirSync(path('in/nothing in it'));
    chmodSync(path('in/big'), 0o4751);
    chmodSync(path('in/nothing in it'), 0o1700);
    utimesSync(path('in/big'), 1_000_000_000, 1_000_000_000);
    const out = unpacked(await tarOf());
    assert.equal(readFileSync(join(out, 'big'), 'utf8'), big);
    assert.equal(readFileSync(join(out, 'empty'), 'utf8'), '');
    assert.equal(readFileSync(join(out, 'block'), 'utf8'), 'b'.repeat(512));
    assert.equal(readFileSync(join(out, long), 'utf8'), 'long');
    assert.equal(readlinkSync(join(out, 'link')), 't'.repeat(150));
    assert.ok(lstatSync(join(out, 'fifo')).isFIFO());
    assert.equal(lstatSync(join(out, 'fifo')).mode & 0o7777, 0o640);
    assert.equal(lstatSync(join(out, 'big')).mode & 0o7777, 0o4751);
    assert.equal(lstatSync(join(out, 'big')).mtimeMs, 1_000_000_000_000);
    assert.equal(lstatSync(join(out, 'nothing in it')).mode & 0o7777, 0o1700);
  });

  it('leaves out what is ignored, and keeps the way to what is not', async () => {
    for (const name of ['a/left', 'a/b/kept', 'c/left', 'kept']) write(`in/${name}`, name);
    const out = unpacked(await tarOf('a\nc\n!a/b/kept'));
    const names = readdirSync(out, { recursive: true }).map(String).sort();
    assert.deepEqual(names, ['a', 'a/b', 'a/b/kept', 'kept']);
  });

  it('ends with two blocks of zeros, and is whole blocks', async () => {
    write('in/file', 'x');
    const tar = await tarOf();
    assert.equal(tar.length, 4 * 512);
    assert.ok(tar.subarray(-1024).every(byte => byte === 0));
  });

  it('does not follow what has become a link since it was looked at', async () => {
    // The headers of both and the contents of the first are a piece.
    write('in/a', 'a'.repeat(256 * 1024 - 1024));
    write('in/b', 'mine');
    write('outside', 'not mine');
    const pieces = contextTar(path('in'), new IgnorePatterns([]));
    assert.equal((await pieces.next()).done, false);
    rmSync(path('in/b'));
    symlinkSync(path('outside'), path('in/b'));
    await assert.rejects(pieces.next(), /^BerthError: read b of the context: it has become a link meanwhile; make it/);
  });

  it('says what cannot be read, and why', async () => {
    write('in/a', '');
    writeFileSync(Buffer.concat([Buffer.from(`${path('in')}/`), Buffer.from([0xff])]), '');
    await assert.rejects(
      tarOf(),
      /^BerthError: read \ufffd of the context: it has gone meanwhile, or its name is not UTF-8/,
    );
    await assert.rejects(
      contextTar(path('none'), new IgnorePatterns([])).next(),
      /^BerthError: read \/ of the context: /,
    );
  });
});
