import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addon } from '../../src/native/addon';
import { fileCallError, fileCalls, removeTree } from '../../src/native/file-calls';

describe('the text of a file of the kernel’s', () => {
  const readText = (path: string) => addon().readText(path);

  it('is read whole, however long', () => {
    assert.equal(readText('/proc/self/comm'), readFileSync('/proc/self/comm', 'utf8'));
    const dir = mkdtempSync(join(tmpdir(), 'berth-text-'));
    try {
      for (const length of [0, 4095, 4096, 4097, 16_384, 300_001]) {
        const text = 'ü' + 'x'.repeat(length);
        writeFileSync(join(dir, 'text'), text);
        assert.equal(readText(join(dir, 'text')), text);
      }
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('fails with the errno', () => {
    assert.throws(() => readText('/proc/self/none'), { code: 'ENOENT' });
    assert.throws(() => readText('/proc/self'), { code: 'EISDIR' });
    assert.throws(() => readText('/proc/self/mem'), { code: 'EIO' });
  });
});

describe('many calls on files at once', () => {
  let dir: string;
  const at = (...names: string[]) => join(dir, ...names);

  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-file-calls-'))));
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  it('makes them in order', async () => {
    const failures = await fileCalls([
      { call: 'mkdir', path: at('a'), mode: 0o700 },
      { call: 'create', path: at('a/täxt'), data: 'grüße\n', mode: 0o640 },
      { call: 'write', path: at('a/täxt'), data: 'new' },
      { call: 'chown', path: at('a/täxt'), uid: 12, gid: 4_000_000_000 },
      { call: 'chmod', path: at('a/täxt'), mode: 0o4711 },
      { call: 'rename', path: at('a'), to: at('b') },
      { call: 'mkdir', path: at('gone'), mode: 0o755 },
      { call: 'rmdir', path: at('gone') },
    ]);
    assert.deepEqual(failures, []);
    assert.deepEqual(readdirSync(dir), ['b']);
    assert.equal(readFileSync(at('b/täxt'), 'utf8'), 'new');
    const { mode, uid, gid } = statSync(at('b/täxt'));
    assert.deepEqual([mode & 0o7777, uid, gid], [0o4711, 12, 4_000_000_000]);
    assert.equal(statSync(at('b')).mode & 0o7777, 0o700);
  });

  it('goes on after a failure, and tells each', async () => {
    const failures = await fileCalls([
      { call: 'write', path: at('none'), data: 'x' },
      { call: 'mkdir', path: at('a'), mode: 0o755 },
      { call: 'rmdir', path: dir },
      { call: 'umount', path: at('a') },
    ]);
    assert.deepEqual(
      failures.map(({ index, code }) => [index, code]),
      [
        [0, 'ENOENT'],
        [2, 'ENOTEMPTY'],
        [3, 'EINVAL'],
      ],
    );
    assert.ok(existsSync(at('a')));
    const [first] = failures;
    assert.ok(first);
    assert.deepEqual(
      { message: fileCallError(first).message, code: 'ENOENT' },
      { message: `ENOENT: write '${at('none')}'`, code: 'ENOENT' },
    );
  });

  it('makes more of them than one turn has', async () => {
    const names = Array.from({ length: 2500 }, (_, i) => String(i));
    const calls = names.map(name => ({ call: 'create', path: at(name), data: name, mode: 0o600 }) as const);
    const failures = await fileCalls([...calls, { call: 'rmdir', path: at('none') }]);
    assert.deepEqual(
      failures.map(({ index }) => index),
      [2500],
    );
    assert.deepEqual(readdirSync(dir).sort(), names.sort());
    assert.equal(readFileSync(at('2499'), 'utf8'), '2499');
  });

  it('refuses a path with a NUL in it', async () => {
    const failures = await fileCalls([{ call: 'mkdir', path: at('a\0b'), mode: 0o755 }]);
    assert.deepEqual(
      failures.map(({ code }) => code),
      ['EINVAL'],
    );
    assert.deepEqual(readdirSync(dir), []);
  });

  describe('removing a tree', () => {
    it('removes more than one turn does, and nothing that links lead to', async () => {
      mkdirSync(at('kept'));
      writeFileSync(at('kept/file'), 'kept');
      for (let i = 0; i < 30; i++) {
        mkdirSync(at('tree', String(i)), { recursive: true });
        for (let j = 0; j < 150; j++) writeFileSync(at('tree', String(i), String(j)), '');
        symlinkSync(at('kept'), at('tree', String(i), 'link'));
      }
      await removeTree(at('tree'));
      assert.deepEqual(readdirSync(dir), ['kept']);
      assert.deepEqual(readdirSync(at('kept')), ['file']);
    });

    it('removes a tree that is deeper than a path may be long', async () => {
      const script = 'mkdir "tree"; chdir "tree"; for (1..1500) { mkdir "dir"; chdir "dir" or die } open F, ">file"';
      execFileSync('perl', ['-e', script], { cwd: dir });
      await removeTree(at('tree'));
      assert.deepEqual(readdirSync(dir), []);
    });

    it('removes many deep trees beside each other, in more turns than one', async () => {
      const chain = 'for (1..70) { mkdir "dir"; chdir "dir" or die }';
      const script = `mkdir "tree"; for $n (1..60) { chdir $ARGV[0] or die; mkdir "tree/$n"; chdir "tree/$n"; ${chain} }`;
      execFileSync('perl', ['-e', script, dir], { cwd: dir });
      await removeTree(at('tree'));
      assert.deepEqual(readdirSync(dir), []);
    });

    it('removes a single file or link, and is content when there is nothing', async () => {
      writeFileSync(at('file'), '');
      symlinkSync('/', at('link'));
      await removeTree(at('file'));
      await removeTree(at('link'));
      await removeTree(at('none'));
      assert.deepEqual(readdirSync(dir), []);
    });

    it('leaves what is mounted below alone', async () => {
      mkdirSync(at('tree/mounted'), { recursive: true });
      execFileSync('mount', ['-t', 'tmpfs', 'none', at('tree/mounted')]);
      try {
        writeFileSync(at('tree/mounted/file'), 'kept');
        await assert.rejects(removeTree(at('tree')), { code: 'EBUSY' });
        assert.equal(readFileSync(at('tree/mounted/file'), 'utf8'), 'kept');
      } finally {
        execFileSync('umount', [at('tree/mounted')]);
      }
      await removeTree(at('tree'));
      assert.deepEqual(readdirSync(dir), []);
    });
  });
});
