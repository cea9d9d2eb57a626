import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { readHierarchies } from '../../src/cgroup/hierarchies';
import { addon } from '../../src/native/addon';
import { nativePath } from '../../src/native/paths';
import { repoRoot } from '../support/repo';

describe('files that are read many at a time', function () {
  this.timeout(60_000);
  let dir: string;
  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-batch-'))));
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const write = (name: string, text: string) => writeFileSync(join(dir, name), text);
  const readTable = async (layout: readonly string[], rows: readonly string[], columns: number) => {
    const cells = new Float64Array(rows.length * columns).fill(-1);
    await addon().readTable(layout.join('\0'), rows.join('\0'), cells);
    return [...cells];
  };
  const table = (rows: readonly string[], ...keys: string[]) =>
    readTable(['always', `${dir}/`, '.txt', ...keys, ''], rows, keys.length);
  const numbersOf = async (text: string, ...keys: string[]) => {
    write('a.txt', text);
    return table(['a'], ...keys);
  };

  it('give the number that a file begins with', async () => {
    assert.deepEqual(await numbersOf('42\n', '#'), [42]);
    assert.deepEqual(await numbersOf('0', '#'), [0]);
    assert.deepEqual(await numbersOf('max\n', '#'), [Infinity]);
    assert.deepEqual(await numbersOf('18446744073709551615\n', '#'), [2 ** 64]);
    assert.deepEqual(await numbersOf('1.25 of it', '#'), [1.25]);
    assert.deepEqual(await numbersOf('', '#'), [NaN]);
    assert.deepEqual(await numbersOf('-1\n', '#'), [NaN]);
  });

  it('give the numbers of words at the beginning of a line, and of fields in it', async () => {
    const text = 'rss 1\ntotal_rss 22\nsome avg10=0.50 total=9\nfull avg10=1.75 total=8\nlast 3';
    const keys = ['rss', 'total_rss', 'some total', 'full avg10', 'full none', 'last', 'avg10', 'total', 'ss'];
    assert.deepEqual(await numbersOf(text, ...keys), [1, 22, 9, 1.75, NaN, 3, NaN, NaN, NaN]);
  });

  it('give the same numbers whatever the order of the keys is', async () => {
    const text = 'a 1\nb x=2 y=3 x=9\nab 4\n';
    const keys = { a: 1, 'b x': 2, 'b y': 3, ab: 4, b: NaN, 'b xy': NaN, 'ab x': NaN };
    const names = Object.keys(keys);
    for (const order of [names, names.toReversed(), ['ab', 'a', 'b y', 'b x', 'a', 'ab']]) {
      const expected = order.map(name => (keys as Record<string, number>)[name]);
      assert.deepEqual(await numbersOf(text, ...order), expected);
    }
  });

  it('give nothing for what is not there, and the rest all the same', async () => {
    write('a.txt', '1');
    write('c.txt', '3');
    assert.deepEqual(await table(['a', 'b', 'c', '../nowhere', 'x'.repeat(5000)], '#'), [1, NaN, 3, NaN, NaN]);
    assert.deepEqual(await table([], '#'), []);
  });

  it('are refused without a sound layout', () => {
    const unsound = [
      [''],
      ['always'],
      ['always', 'before'],
      ['always', 'a', 'b', ''],
      ['always', 'a', 'b', ...'x'.repeat(17), ''],
      ['never', 'a', 'b', 'x', ''],
    ];
    for (const layout of unsound) {
      const read = () => addon().readTable(layout.join('\0'), 'row', new Float64Array(17));
      assert.throws(read, /a layout of files and keys is expected/);
    }
  });

  it('are refused without room for every number', () => {
    const layout = ['always', 'before', 'after', 'one', 'two', ''].join('\0');
    for (const cells of [new Float64Array(3), new Float32Array(4), new ArrayBuffer(32), undefined]) {
      const read = () => addon().readTable(layout, 'row\0other', cells as Float64Array);
      assert.throws(read, /a Float64Array with a number for each row and key is expected/);
    }
  });

  it('are read again by every call, those of a cgroup that was made anew among them', async () => {
    const { v2, v1 } = readHierarchies();
    const root = v1.find(({ controllers }) => controllers.includes('pids'))?.mountpoint ?? v2 ?? assert.fail();
    const name = `berth-batch-${process.pid}`;
    const read = () => readTable(['always', `${root}/`, '/pids.max', '#', ''], [name], 1);
    for (const limit of [100, 200]) {
      mkdirSync(join(root, name));
      try {
        assert.deepEqual(await read(), [Infinity]);
        writeFileSync(join(root, name, 'pids.max'), String(limit));
        assert.deepEqual(await read(), [limit]);
      } finally {
        rmdirSync(join(root, name));
      }
      assert.deepEqual(await read(), [NaN]);
    }
  });

  it('are taken from before while a row is at rest, and read again once it is not, or may not be', async () => {
    const layout = [
      ['unless-at-rest', `${dir}/`, '.stat', 'a', 'b'],
      ['sign', `${dir}/`, '.time', '#'],
      ['always', `${dir}/`, '.waits', '#'],
    ].flatMap(file => [...file, '']);
    const read = async (...rows: string[]) => readTable(layout, rows, 4);
    const put = (row: string, stat: number, time: number, waits: number) => {
      write(`${row}.stat`, `a ${stat}\nb ${stat + 1}\n`);
      write(`${row}.time`, `${time}`);
      write(`${row}.waits`, `${waits}`);
    };
    const numbers = (stat: number, time: number, waits: number) => [stat, stat + 1, time, waits];
    put('x', 1, 7, 1);
    put('y', 1, 7, 1);
    // The first time its signs are seen; then whether it rests is to be seen yet.
    assert.deepEqual(await read('x', 'y'), [...numbers(1, 7, 1), ...numbers(1, 7, 1)]);
    put('x', 2, 7, 2);
    assert.deepEqual(await read('x'), numbers(2, 7, 2));
    await setTimeout(5000);
    put('x', 3, 7, 3);
    assert.deepEqual(await read('x', 'y'), [...numbers(3, 7, 3), ...numbers(1, 7, 1)]);
    put('x', 4, 7, 4);
    put('y', 4, 8, 4);
    assert.deepEqual(await read('x', 'y'), [...numbers(3, 7, 4), ...numbers(4, 8, 4)]);
    addon().wakeTable();
    assert.deepEqual(await read('x'), numbers(4, 7, 4));
    // What has signs no longer is not known to rest.
    put('x', 5, 7, 5);
    assert.deepEqual(await read('x'), numbers(4, 7, 5));
    write('x.time', '');
    assert.deepEqual(await read('x'), numbers(5, NaN, 5));
    put('x', 6, 7, 6);
    assert.deepEqual(await read('x'), numbers(6, 7, 6));
  });

  it('are taken from before while a row is at rest and no average is above zero', async () => {
    const layout = [
      'sign',
      `${dir}/`,
      '.time',
      '#',
      '',
      'unless-calm',
      `${dir}/`,
      '.waits',
      'some avg10',
      'some total',
      '',
    ];
    const read = async () => readTable(layout, ['calm', 'waits'], 3);
    const put = (row: string, average: string, total: number) => {
      write(`${row}.time`, '7');
      write(`${row}.waits`, `some avg10=${average} total=${total}\n`);
    };
    put('calm', '0.00', 1);
    put('waits', '0.01', 1);
    await read();
    await setTimeout(5000);
    assert.deepEqual(await read(), [7, 0, 1, 7, 0.01, 1]);
    put('calm', '0.50', 2);
    put('waits', '0.00', 2);
    assert.deepEqual(await read(), [7, 0, 1, 7, 0, 2]);
    put('waits', '0.00', 3);
    assert.deepEqual(await read(), [7, 0, 1, 7, 0, 2]);
  });

  it('are not taken from before where no file is a sign', async () => {
    const read = async () => readTable(['unless-at-rest', `${dir}/`, '.txt', '#', ''], ['a'], 1);
    write('a.txt', '1');
    await read();
    await setTimeout(5000);
    await read();
    write('a.txt', '2');
    assert.deepEqual(await read(), [2]);
  });

  it('stay open in a table of descriptors that is nobody else’s', async () => {
    const before = readdirSync('/proc/self/fd').length;
    const rows = Array.from({ length: 300 }, (_, i) => `row-${i}`);
    for (const row of rows) write(`${row}.txt`, '7');
    assert.deepEqual(new Set(await table(rows, '#')), new Set([7]));
    assert.ok(readdirSync('/proc/self/fd').length < before + 20);
    const threads = readdirSync('/proc/self/task').map(id => `/proc/self/task/${id}/fd`);
    const held = threads.flatMap(fds => readdirSync(fds).map(fd => linkOf(join(fds, fd))));
    assert.equal(held.filter(path => path.startsWith(`${dir}/row-`)).length, rows.length);
    // A pipe of this process's is not held open by it: its reader hears of the end.
    const child = spawn('cat', { stdio: ['pipe', 'ignore', 'inherit'] });
    await table(rows, '#');
    child.stdin.end();
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  });

  it('are read for many calls at once, each with its own numbers', async () => {
    const names = Array.from({ length: 500 }, (_, i) => `row-${i}`);
    names.forEach((name, i) => write(`${name}.txt`, `${i}\nkey ${i * 2}\n`));
    const calls = Array.from({ length: 50 }, async (_, i) => {
      const rows = names.slice(i * 10, i * 10 + 10 + i);
      const expected = rows.flatMap((_row, j) => [i * 10 + j, (i * 10 + j) * 2]);
      assert.deepEqual(await table(rows, '#', 'key'), expected);
    });
    await Promise.all(calls);
  });

  it('are waited for by a worker or a process that ends meanwhile', async () => {
    for (const name of ['a', 'b']) write(`${name}.txt`, '7');
    const layout = JSON.stringify(['always', `${dir}/`, '.txt', '#', ''].join('\0'));
    const source = `
      const addon = require(${JSON.stringify(nativePath('berth.node'))});
      const rows = Array.from({ length: 5000 }, (_, i) => 'ab'[i % 2]).join('\\0');
      for (let i = 0; i < 20; i++) void addon.readTable(${layout}, rows, new Float64Array(5000));
      process.exit(3);`;
    for (let i = 0; i < 5; i++) {
      assert.deepEqual(await once(new Worker(source, { eval: true }), 'exit'), [3]);
    }
    const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'ignore', 'inherit'] });
    assert.deepEqual(await once(child, 'exit'), [3, null]);
    assert.deepEqual(await table(['a', 'b'], '#'), [7, 7]);
  });

  it('are read whole, in pieces where the kernel gives them so', async () => {
    write('a', 'x'.repeat(60_000));
    write('b', '');
    const texts = await addon().readFiles(
      [join(dir, 'a'), join(dir, 'none'), join(dir, 'b'), '/proc/self/maps'].join('\0'),
      '',
    );
    const [a, none, b, maps = '', ...rest] = texts.split('\0');
    assert.deepEqual([a?.length, none, b, rest], [60_000, '', '', ['']]);
    assert.ok(maps.length > 4096 && maps.includes('[stack]'));
  });

  it('are read as far as whole lines fit: the beginning of a number is another number', async () => {
    const lines = Array.from({ length: 10_000 }, (_, i) => `${i + 100_000}\n`);
    write('a', lines.join(''));
    write('b', '1'.repeat(70_000));
    const [a = '', b] = (await addon().readFiles([join(dir, 'a'), join(dir, 'b')].join('\0'), '')).split('\0');
    const fitting = Math.floor(65_535 / 7);
    assert.equal(a, lines.slice(0, fitting).join(''));
    assert.equal(b, '');
  });

  it('are read in other network namespaces, and no thread stays there', async () => {
    const own = readlinkSync('/proc/self/ns/net');
    const holder = spawn(
      'unshare',
      ['-n', 'sh', '-c', 'ip link add inside type veth peer name peer && echo ready && exec cat'],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    try {
      await once(holder.stdout, 'data');
      const networks = [`/proc/${holder.pid}/ns/net`, '/proc/self/ns/net', '/nowhere', `/proc/${holder.pid}/ns/net`];
      const text = await addon().readFiles(
        networks.map(() => '/proc/thread-self/net/dev').join('\0'),
        networks.join('\0'),
      );
      const inside = text.split('\0').map(one => one.includes('inside:'));
      assert.deepEqual(inside, [true, false, false, true, false]);
      assert.equal(text.split('\0')[2], '');
    } finally {
      holder.kill('SIGKILL');
      await once(holder, 'close');
    }
    const namespaces = readdirSync('/proc/self/task').map(id => linkOf(`/proc/self/task/${id}/ns/net`));
    assert.deepEqual(new Set(namespaces.filter(link => link !== '')), new Set([own]));
  });

  it('are refused in fewer networks than there are files', () => {
    assert.throws(() => addon().readFiles('a\0b', 'n'), /a network for each path is expected/);
  });
});

describe('the size of a tree', function () {
  this.timeout(60_000);
  let dir: string;
  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-tree-'))));
  afterEach(() => execFileSync('rm', ['-rf', dir]));

  const sizeOf = async (path: string) => [...(await addon().treeUsage(path))];
  const du = (path: string) => {
    const count = (...options: string[]) =>
      Number(execFileSync('du', ['-s', ...options, path], { encoding: 'utf8' }).split('\t')[0]);
    return [count('--block-size=1'), count('--inodes')];
  };

  it('is what du says, of files with several names once, and of no link’s target', async () => {
    mkdirSync(join(dir, 'a/b/c'), { recursive: true });
    for (const [i, name] of ['a/1', 'a/b/2', 'a/b/c/3'].entries())
      writeFileSync(join(dir, name), 'x'.repeat(i * 100_000));
    for (let i = 0; i < 600; i++) {
      writeFileSync(join(dir, `a/file-${i}`), 'y');
      linkSync(join(dir, `a/file-${i}`), join(dir, `a/b/link-${i}`));
    }
    symlinkSync('/usr', join(dir, 'usr'));
    assert.deepEqual(await sizeOf(dir), du(dir));
  });

  it('is all of it, however deep', async () => {
    // Deeper than a path can be long: 4000 levels, made in two steps.
    const levels = 'd/'.repeat(2000);
    const below = (depth: number) => [dir, levels, levels].slice(0, depth).flatMap(at => ['env', '-C', at]);
    for (const [depth, ...command] of [
      [1, 'mkdir', '-p', levels],
      [2, 'mkdir', '-p', levels],
      [3, 'dd', 'if=/dev/zero', 'of=f', 'bs=1000', 'count=1000', 'status=none'],
    ] as const) {
      const [program = '', ...args] = [...below(depth), ...command];
      execFileSync(program, args);
    }
    const [bytes = 0, inodes] = await sizeOf(dir);
    assert.equal(inodes, 4002);
    assert.ok(bytes > 1_000_000);
  });

  it('is unknown of what is no directory, and known of the others', async () => {
    writeFileSync(join(dir, 'file'), '');
    symlinkSync('/usr', join(dir, 'link'));
    const [a, b, c, d, ...rest] = await sizeOf(
      [join(dir, 'none'), join(dir, 'file'), join(dir, 'link'), dir].join('\0'),
    );
    assert.deepEqual([a, b, c, d, ...rest].slice(0, 6), [NaN, NaN, NaN, NaN, NaN, NaN]);
    assert.deepEqual(rest.slice(2), du(dir));
    assert.deepEqual(await sizeOf(''), []);
  });

  it('is no longer counted once the process ends, which would wait for it', () => {
    // Its end is told, and does not come.
    const script = `
      const { addon } = require('./dist/src/native/addon.js');
      const size = () => addon().treeUsage(${JSON.stringify(dir)}).then(cells => [...cells]);
      size().then(async before => {
        process.emit('exit', 0);
        console.log(JSON.stringify([before, await size()]));
      });`;
    const said = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', cwd: repoRoot });
    assert.deepEqual(JSON.parse(said), [du(dir), [null, null]]);
  });
});

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ''; // it has just ended
  }
}
