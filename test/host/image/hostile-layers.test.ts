import assert from 'node:assert/strict';
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { removeDirectory } from '../../../src/image/unpack/unpack';
import { Canary, type Outcome } from '../../support/canary';
import { sparse, sparseForms, tar, type TarEntry } from '../../support/image-builder';
import { xattrsBelow } from '../../support/tree';
import { unpackTar } from '../../support/unpack';

/* Names are characters up to 255, each a byte. */
const bytes = (path: string) => Buffer.from(path, 'latin1');
const dir = (path: string): TarEntry => ({ path: bytes(path), type: 'dir' });
const file = (path: string, data = 'x'): TarEntry => ({ path: bytes(path), data });
const symlink = (path: string, link: string): TarEntry => ({ path: bytes(path), type: 'symlink', link: bytes(link) });
const hardlink = (path: string, link: string): TarEntry => ({ path: bytes(path), type: 'hardlink', link: bytes(link) });

/** What the layer below holds. */
const lowerEntries = (host: string): TarEntry[] => [
  symlink('out', host),
  symlink('up', '../../..'),
  symlink('victim-link', `${host}/victim`),
  { ...dir('d'), mode: 0o2750, uid: 7, gid: 8, mtime: 1_500_000_000 },
  file('d/old'),
  file('f', 'below'),
  { ...file('su', 'su below'), mode: 0o4755 },
  { path: 'disk', type: 'block', major: 8, minor: 1, mode: 0o660, uid: 3, mtime: 1_500_000_001 },
  { path: 'pipe', type: 'fifo', mode: 0o622, mtime: 1_500_000_002 },
];

/** A kind of entry: how it is written, and how one sees that it is there. */
interface Kind {
  /** The last part of its name, for a name that it is to show. */
  readonly leaf?: (name: string) => string;
  readonly entry: (path: Buffer) => TarEntry;
  /** The object that has its place; `holder` is the directory. */
  readonly isThere: (path: Buffer, holder: string, at: (path: string) => Buffer) => boolean;
}

const isFile = (text: string) => (path: Buffer) => lstatSync(path).isFile() && readFileSync(path, 'latin1') === text;
const isChar = (rdev: number) => (path: Buffer) => lstatSync(path).isCharacterDevice() && lstatSync(path).rdev === rdev;
const sparseText = `${'\0'.repeat(1024)}ab${'\0'.repeat(3000)}cd\0`;
const special = { mode: 0o6777, uid: 4_000_000, gid: 5 };

const kinds: Readonly<Record<string, Kind>> = {
  file: { entry: path => ({ path, data: 'x', ...special, pax: { uid: '4000000' } }), isThere: isFile('x') },
  'contiguous file': { entry: path => ({ path, type: 'contiguous', data: 'x' }), isThere: isFile('x') },
  'file of the seventies': { entry: path => ({ path, type: 'v7', data: 'x' }), isThere: isFile('x') },
  'file by a PAX name': { entry: path => ({ path, data: 'x', names: 'pax!' }), isThere: isFile('x') },
  'file by a GNU name': { entry: path => ({ path, data: 'x', names: 'gnu!' }), isThere: isFile('x') },
  'file of a PAX size': { entry: path => ({ path, data: 'x', size: 0, pax: { size: '1' } }), isThere: isFile('x') },
  'empty file': { entry: path => ({ path, data: '' }), isThere: isFile('') },
  directory: {
    entry: path => ({ path, type: 'dir', mode: 0o7777 }),
    isThere: path => lstatSync(path).isDirectory() && (lstatSync(path).mode & 0o7777) === 0o7777,
  },
  'directory by a PAX name': {
    entry: path => ({ path, type: 'dir', names: 'pax!' }),
    isThere: path => lstatSync(path).isDirectory(),
  },
  symlink: {
    entry: path => ({ path, type: 'symlink', link: '../../../victim' }),
    isThere: path => readlinkSync(path) === '../../../victim',
  },
  'symlink by PAX': {
    entry: path => ({ path, type: 'symlink', link: '/etc/passwd', names: 'pax!' }),
    isThere: path => readlinkSync(path) === '/etc/passwd',
  },
  'symlink by GNU': {
    entry: path => ({ path, type: 'symlink', link: '/etc/passwd', names: 'gnu!' }),
    isThere: path => readlinkSync(path) === '/etc/passwd',
  },
  'hard link': {
    entry: path => ({ path, type: 'hardlink', link: 'inside', ...special }),
    isThere: (path, _holder, at) => lstatSync(path).ino === lstatSync(at('inside')).ino,
  },
  'hard link by PAX': {
    entry: path => ({ path, type: 'hardlink', link: '/./inside', names: 'pax!' }),
    isThere: (path, _holder, at) => lstatSync(path).ino === lstatSync(at('inside')).ino,
  },
  'hard link by GNU': {
    entry: path => ({ path, type: 'hardlink', link: '/inside', names: 'gnu!' }),
    isThere: (path, _holder, at) => lstatSync(path).ino === lstatSync(at('inside')).ino,
  },
  'character device': { entry: path => ({ path, type: 'char', major: 1, minor: 3 }), isThere: isChar(0x103) },
  'block device': {
    entry: path => ({ path, type: 'block', major: 8, minor: 0, ...special }),
    isThere: path => lstatSync(path).isBlockDevice(),
  },
  FIFO: { entry: path => ({ path, type: 'fifo' }), isThere: path => lstatSync(path).isFIFO() },
  whiteout: { leaf: name => `.wh.${name}`, entry: path => ({ path, data: '' }), isThere: isChar(0) },
  'whiteout that is a symlink': {
    leaf: name => `.wh.${name}`,
    entry: path => ({ path, type: 'symlink', link: '../../../victim' }),
    isThere: isChar(0),
  },
  'opaque directory': {
    leaf: () => '.wh..wh..opq',
    entry: path => ({ path, data: '' }),
    isThere: (_path, holder) => xattrsBelow(holder).get('') === 'trusted.overlay.opaque=0x79',
  },
  ...Object.fromEntries(
    sparseForms.map(form => [
      `sparse file of form ${form}`,
      {
        entry: (path: Buffer) =>
          sparse(form, { path }, sparseText.length, [
            [1024, 'ab'],
            [4026, 'cd'],
          ]),
        isThere: isFile(sparseText),
      },
    ]),
  ),
};

/** A way out of the image that the directory of an entry's name tries. */
interface Escape {
  readonly name: string;
  readonly before?: (host: string) => TarEntry[];
  readonly parent: (host: string) => string;
  /** The directory, below the target, where the entry ends up; or why the layer is refused. */
  readonly ends: ((host: string) => string) | RegExp;
  readonly above?: true;
}

const leadsOut = /the name leads out of the image; such a layer is refused$/;
const loops = /too many symbolic links in its path; such a layer is refused$/;
const noDirectory = /a part of its path is not a directory; such a layer is refused$/;
const to = (path: string) => () => path;

const escapes: readonly Escape[] = [
  { name: '..', parent: to('..'), ends: leadsOut },
  { name: 'many ..', parent: to('../../../../../../../../../..'), ends: leadsOut },
  { name: '.. after a name', before: () => [dir('a')], parent: to('a/../..'), ends: leadsOut },
  { name: '.. after names that are not there', parent: to('a/b/../../..'), ends: leadsOut },
  { name: '.. after a dot', parent: to('./..'), ends: leadsOut },
  { name: '.. after a slash', parent: to('/..'), ends: leadsOut },
  { name: '.. after slashes and dots', parent: to('/.//./..//.'), ends: leadsOut },
  { name: '.. after a link', before: host => [symlink('l', host)], parent: to('l/../..'), ends: leadsOut },
  { name: 'a slash', parent: to(''), ends: to('') },
  { name: 'many slashes', parent: to('////'), ends: to('') },
  { name: 'the host by its name', parent: host => host, ends: host => host },
  { name: 'dots', before: () => [dir('a')], parent: to('./././a/.'), ends: to('a') },
  { name: '.. that stays inside', parent: to('a/b/..'), ends: to('a') },
  { name: 'directories without entries', parent: to('p/q/r'), ends: to('p/q/r') },
  { name: 'an absolute link', before: host => [symlink('out', host)], parent: to('out'), ends: host => host },
  {
    name: 'a link by PAX',
    before: host => [{ ...symlink('out', host), names: 'pax!' }],
    parent: to('out'),
    ends: host => host,
  },
  {
    name: 'a link by GNU',
    before: host => [{ ...symlink('out', host), names: 'gnu!' }],
    parent: to('out'),
    ends: host => host,
  },
  { name: 'a link up', before: () => [symlink('up', '../../..')], parent: to('up'), ends: to('') },
  {
    name: 'a link up and down',
    before: () => [symlink('up', '../../../dir/inner')],
    parent: to('up'),
    ends: to('dir/inner'),
  },
  { name: 'a link to /', before: () => [symlink('l', '/')], parent: to('l'), ends: to('') },
  { name: 'a link to .', before: () => [symlink('l', '.')], parent: to('l/l/l'), ends: to('') },
  {
    name: 'a link with .. after a directory',
    before: () => [dir('d'), symlink('l', 'd/../../../..')],
    parent: to('l'),
    ends: to(''),
  },
  {
    name: 'a chain of links',
    before: () => [dir('a'), symlink('a/up', '..'), symlink('b', 'a/up/..'), symlink('c', 'b/../../..')],
    parent: to('c'),
    ends: to(''),
  },
  {
    name: 'a link that a link leads to',
    before: host => [symlink('a', 'b'), symlink('b', 'c'), symlink('c', host)],
    parent: to('a'),
    ends: host => host,
  },
  {
    name: 'a link to what is not there',
    before: () => [symlink('l', 'no/such')],
    parent: to('l'),
    ends: to('no/such'),
  },
  {
    name: 'a link to what is not there and back',
    before: () => [symlink('l', 'no/such/../../../../../x')],
    parent: to('l'),
    ends: to('x'),
  },
  {
    name: 'a hard link to a link',
    before: host => [symlink('s', host), hardlink('h', 's')],
    parent: to('h'),
    ends: host => host,
  },
  {
    name: 'a directory that became a link',
    before: host => [dir('d'), file('d/a'), symlink('d', host)],
    parent: to('d'),
    ends: host => host,
  },
  {
    name: 'a directory that became a link and a directory again',
    before: host => [dir('d'), symlink('d', host), dir('d')],
    parent: to('d'),
    ends: to('d'),
  },
  {
    name: 'a link that became a directory and a link again',
    before: host => [symlink('d', 'elsewhere'), dir('d'), file('d/a'), symlink('d', host)],
    parent: to('d'),
    ends: host => host,
  },
  {
    name: 'a directory, of a directory that became a link',
    before: host => [dir('a'), dir('a/dir'), file('a/dir/x'), symlink('a', host)],
    parent: to('a/dir'),
    ends: host => `${host}/dir`,
  },
  {
    name: 'the longer of two names that begin alike',
    before: host => [symlink('ab', host), dir('a'), dir('abc')],
    parent: to('abc'),
    ends: to('abc'),
  },
  {
    name: 'the root of a process',
    before: () => [symlink('m', '/proc/self/root')],
    parent: to('m'),
    ends: to('proc/self/root'),
  },
  {
    name: 'the directory of a process',
    before: () => [symlink('m', '/proc/self/cwd')],
    parent: to('m'),
    ends: to('proc/self/cwd'),
  },
  {
    name: 'a descriptor',
    before: () => [symlink('m', '/proc/self/fd/3')],
    parent: to('m'),
    ends: to('proc/self/fd/3'),
  },
  { name: 'a loop of links', before: () => [symlink('a', 'b'), symlink('b', 'a')], parent: to('a'), ends: loops },
  { name: 'a link to itself', before: () => [symlink('a', 'a/x')], parent: to('a'), ends: loops },
  { name: 'a file', before: () => [file('a')], parent: to('a'), ends: noDirectory },
  { name: 'a FIFO', before: () => [{ path: 'a', type: 'fifo' }], parent: to('a'), ends: noDirectory },
  {
    name: 'a device',
    before: () => [{ path: 'a', type: 'char', major: 1, minor: 3 }],
    parent: to('a'),
    ends: noDirectory,
  },
  { name: 'a link to a file', before: () => [file('f'), symlink('a', 'f')], parent: to('a'), ends: noDirectory },
  { name: 'a whiteout of a directory', parent: to('.wh.a'), ends: /the whiteout names nothing that it could hide/ },
  { name: 'what a whiteout hides', before: () => [file('.wh.a', '')], parent: to('a'), ends: to('a') },
  {
    name: 'a link to what a whiteout hides',
    before: () => [file('.wh.a', ''), symlink('l', 'a')],
    parent: to('l'),
    ends: to('a'),
  },
  { name: 'a link of the layer below', parent: to('out'), ends: to('out'), above: true },
  { name: 'a link up of the layer below', parent: to('up'), ends: to('up'), above: true },
  {
    name: 'a link to a link of the layer below',
    before: () => [symlink('l', 'out')],
    parent: to('l'),
    ends: to('out'),
    above: true,
  },
  { name: '.. after a link of the layer below', parent: to('out/../../x'), ends: leadsOut, above: true },
  { name: 'a file of the layer below', parent: to('f'), ends: to('f'), above: true },
  { name: 'a directory of the layer below', parent: to('d'), ends: to('d'), above: true },
  {
    name: 'a directory of the layer below that is hidden',
    before: () => [file('.wh.d', '')],
    parent: to('d'),
    ends: to('d'),
    above: true,
  },
  {
    name: 'a directory of the layer below that became a link',
    before: host => [symlink('d', host)],
    parent: to('d'),
    ends: host => host,
    above: true,
  },
];

describe('hostile layers', function () {
  this.timeout(60_000);
  let canary: Canary;
  before(() => {
    canary = Canary.make(lowerEntries);
  });
  after(() => canary.destroy());

  const at = (path: string) => bytes(`${canary.target}/${path}`);
  /** A layer is refused with this sentence, or not at all; in any case nothing outside has changed. */
  const judge = (outcome: Outcome, refused: RegExp | undefined, what: string) => {
    assert.deepEqual(canary.changes(), [], what);
    if (refused === undefined) assert.equal(outcome.refused, undefined, what);
    else assert.ok(refused.test(outcome.refused ?? ''), `${what}: ${outcome.refused ?? 'it was unpacked'}`);
    if (refused) assert.match(outcome.kind ?? '', /^(failed_precondition|data_loss)$/, what);
  };

  it('would be noticed outside, whatever they changed', async () => {
    const host = (path: string) => join(canary.dir, path);
    const touches: (() => void)[] = [
      () => writeFileSync(host('victim'), 'untouched'),
      () => chmodSync(host('bin/su'), 0o4755),
      () => chownSync(host('dir'), 0, 0),
      () => lutimesSync(host('link'), 0, 0),
      () => writeFileSync(host('new'), ''),
      () => rmSync(host('new')),
      () => linkSync(host('etc/passwd'), host('run/lower/new')),
      () => rmSync(host('run/lower/new')),
      () => writeFileSync(host('run/layers/beside'), ''),
    ];
    await using canary = Canary.make(lowerEntries);
    for (const touch of touches) {
      touch();
      assert.notDeepEqual(canary.changes(), [], touch.toString());
    }
    rmSync(host('run/layers/beside'));
    assert.deepEqual(canary.changes(), []);
    canary.acknowledge();
  });

  describe('whose names go by', () => {
    for (const { name, before: entries = () => [], parent, ends, above } of escapes)
      it(`${name} ${ends instanceof RegExp ? 'are refused' : 'stay inside'}`, async () => {
        for (const [title, { leaf = (plain: string) => plain, entry, isThere }] of Object.entries(kinds)) {
          const what = `${title} by ${name}`;
          const path = bytes(`${parent(canary.dir)}/${leaf('x')}`);
          const layer = tar([file('inside', 'inside'), ...entries(canary.dir), entry(path)]);
          const outcome = await canary.unpack(layer, above ? 'lower' : 'nothing');
          judge(outcome, ends instanceof RegExp ? ends : undefined, what);
          if (ends instanceof RegExp) continue;
          const holder = `${canary.target}/${ends(canary.dir)}`;
          assert.ok(isThere(bytes(`${holder}/x`), holder, at), `${what} is not where it should be`);
        }
      });
  });

  describe('whose entries take the place of', () => {
    const places: readonly [name: string, before: (host: string) => TarEntry[]][] = [
      ['a link to a file of the host', host => [symlink('x', `${host}/victim`)]],
      ['a link to a program of the host', host => [symlink('x', `${host}/bin/su`)]],
      ['a link to a directory of the host', host => [symlink('x', `${host}/dir`)]],
      ['a link up', () => [symlink('x', '../../../etc/shadow')]],
      ['a link to what the host does not have', host => [symlink('x', `${host}/new`)]],
      ['a hard link to a link', host => [symlink('s', `${host}/victim`), hardlink('x', 's')]],
      [
        'a directory with links in it',
        host => [
          dir('x'),
          symlink('x/a', host),
          symlink('x/b', '../../../..'),
          dir('x/c'),
          symlink('x/c/d', `${host}/dir`),
        ],
      ],
      ['a directory that is not empty', () => [dir('x'), dir('x/y'), file('x/y/z')]],
      ['a file', () => [file('x', 'old')]],
      ['a file with two names', () => [file('x', 'old'), hardlink('y', 'x')]],
      ['a FIFO', () => [{ path: 'x', type: 'fifo' }]],
      ['a device', () => [{ path: 'x', type: 'block', major: 8, minor: 0 }]],
      ['a whiteout', () => [file('.wh.x', '')]],
    ];
    for (const [name, entries] of places)
      it(`${name} follow nothing`, async () => {
        for (const [title, { leaf, entry, isThere }] of Object.entries(kinds)) {
          if (leaf) continue; // whiteouts leave what is there
          const layer = tar([file('inside', 'inside'), ...entries(canary.dir), entry(bytes('x'))]);
          judge(await canary.unpack(layer), undefined, `${title} over ${name}`);
          assert.ok(isThere(at('x'), canary.target, at), `${title} over ${name} is not there`);
        }
      });
  });

  it('may have any name that a file can have', async () => {
    const names = [
      ...[
        '\n',
        'a\nb',
        '\t',
        '\r',
        '\x01\x02',
        '\x1b[31m',
        '\x7f',
        '\x80',
        '\xff\xfe',
        '\xc0\xae\xc0\xae',
        '\xe2\x80\xae',
      ],
      ...[' ', '-rf', '...', '..x', 'x..', '*', '$(id)', '%2e%2e', '\\', '..\\..', 'C:', "'", '"', '&', ':', '='],
      ...['.wh', '.whx', 'a.wh.b', 'PaxHeader', '@LongLink', 'n'.repeat(255)],
    ];
    for (const [title, { leaf = (plain: string) => plain, entry, isThere }] of Object.entries(kinds)) {
      const all = names.map(name => entry(bytes(leaf(name.slice(0, 250)))));
      judge(await canary.unpack(tar([file('inside', 'inside'), ...all])), undefined, title);
      for (const name of names) assert.ok(isThere(at(name.slice(0, 250)), canary.target, at), `${title} ${name}`);
    }
  });

  /** A row of a table: what is in the layer, and how it ends: refused, or with a look at the target. */
  type Row = readonly [
    name: string,
    entries: (host: string) => (TarEntry | Buffer)[],
    ends: RegExp | ((outcome: Outcome) => void | Promise<void>),
    below?: 'lower' | 'unknown',
  ];
  const rows = (table: readonly Row[]) => {
    for (const [name, entries, ends, below = 'nothing'] of table)
      it(`${name} ${ends instanceof RegExp ? 'are refused' : 'stay inside'}`, async () => {
        const outcome = await canary.unpack(archive(entries(canary.dir)), below);
        judge(outcome, ends instanceof RegExp ? ends : undefined, name);
        if (ends instanceof RegExp) return;
        if (!outcome.needsChain) assert.deepEqual(await canary.damage(), [], 'its manifest is right');
        await ends(outcome);
      });
  };
  const archive = (parts: readonly (TarEntry | Buffer)[]) =>
    Buffer.concat([
      ...parts.map(part => (Buffer.isBuffer(part) ? part : tar([part], { end: false }))),
      Buffer.alloc(1024),
    ]);
  const stat = (path: string) => lstatSync(at(path));
  const text = (path: string) => readFileSync(at(path), 'latin1');
  const names = () => readdirSync(canary.target, { encoding: 'latin1' }).sort();
  const holds =
    (...expected: string[]) =>
    () =>
      assert.deepEqual(names(), expected.sort());

  describe('with names', () => {
    const rootKinds = Object.entries(kinds).filter(([title, { leaf }]) => !leaf && !/^directory|^empty/.test(title));
    for (const root of ['', '.', './', '/', '//', './.', 'a/..', 'a/b/../../'])
      it(`of the root, ${JSON.stringify(root)}, are refused, but of directories`, async () => {
        for (const [title, { entry }] of rootKinds) {
          if (root === '' && /PAX|GNU|sparse/.test(title)) continue; // no name there means that of the header
          if (root.endsWith('/') && title === 'file of the seventies') continue; // a directory
          const outcome = await canary.unpack(tar([file('inside'), entry(bytes(root))]));
          judge(outcome, /the root of an image must be a directory/, `${title} as the root`);
        }
        const outcome = await canary.unpack(tar([{ path: root, type: 'dir', mode: 0o1711, uid: 9, mtime: 1 }]));
        judge(outcome, undefined, 'a directory as the root');
        assert.deepEqual([stat('').mode & 0o7777, stat('').uid, stat('').mtimeMs], [0o1711, 9, 1000]);
      });
    rows([
      [
        'of 256 bytes',
        () => [file('n'.repeat(256))],
        /a name is too long for the file system; such a layer is refused/,
      ],
      ['of 256 bytes on the way', () => [file(`${'n'.repeat(256)}/x`)], /a name is too long for the file system/],
      ['over 4095 bytes by PAX', () => [file(`${'a/'.repeat(2048)}x`)], /a name is longer than 4095 bytes/],
      [
        'over 4095 bytes by GNU',
        () => [{ path: `${'a/'.repeat(2048)}x`, names: 'gnu!' }],
        /longer than 4095 bytes|too long/,
      ],
      [
        'of a megabyte by GNU',
        () => [{ path: 'a'.repeat(1_000_000), names: 'gnu!' }],
        /a PAX header or a long name is too long/,
      ],
      ['of two megabytes by PAX', () => [file('a'.repeat(2_000_000))], /a PAX header or a long name is too long/],
      ['with NUL by PAX', () => [{ path: bytes('a\0../../x'), names: 'pax!' }], /a PAX header is malformed/],
      ['with NUL in the header', () => [file('a\0/../../x')], holds('a')],
      ['with NUL by GNU', () => [{ path: bytes('a\0/../../x'), names: 'gnu!' }], holds('a')],
      ['that are empty by PAX', () => [{ path: 'a', pax: { path: '' } }], holds('a')],
      ['with a slash at the end, of files', () => [file('a/', 'x')], () => assert.equal(text('a'), 'x')],
      ['with a slash at the end, of empty files', () => [file('a/', '')], () => assert.ok(stat('a').isDirectory())],
      [
        'that begin another',
        () => [file('a'), file('ab'), dir('a.b'), file('a.b/c'), file('a b')],
        holds('a', 'ab', 'a.b', 'a b'),
      ],
      ['2,000 directories deep', () => [file(`${'a/'.repeat(2000)}x`)], /its directories are more than 512 deep/],
      [
        '500 directories deep',
        () => [file(`${'a/'.repeat(500)}x`), file(`${'a/'.repeat(500)}y`)],
        () => removeDirectory(canary.target),
      ],
      [
        'deeper than 4095 bytes by way of links',
        () => [
          dir('a'),
          symlink('a/l', `/${`${'n'.repeat(200)}/`.repeat(15)}`),
          file(`a/l/${`${'m'.repeat(200)}/`.repeat(15)}x`),
        ],
        /too long/,
      ],
      ['that PAX and a global PAX header give', () => [globalPax('path', '../x'), file('a')], holds('a')],
      [
        'that two PAX headers give',
        () => [paxOnly('path', '../x'), { path: 'made-up', pax: { path: 'a' } }],
        holds('a'),
      ],
      ['that PAX and GNU give', () => [{ path: '../x', names: 'gnu!', pax: { path: 'a' } }], holds('a')],
      ['that a prefix makes', () => [{ path: 'a', raw: { 345: '../..' } }], /leads out of the image/],
      [
        'that a prefix makes absolute',
        () => [{ path: 'a', raw: { 345: '/etc' } }],
        () => assert.equal(stat('etc/a').size, 0),
      ],
    ]);
  });

  describe('with hard links to', () => {
    const ways = [{}, { names: 'pax!' }, { names: 'gnu!' }] as const;
    const link = (target: string, before: TarEntry[] = []) =>
      ways.map(way => [...before, { ...hardlink('h', target), ...way }]);
    const missing = /the file that it links to does not exist; such a layer is refused/;
    const targets: readonly [
      name: string,
      target: (host: string) => string,
      ends: RegExp,
      before?: (host: string) => TarEntry[],
    ][] = [
      ['..', () => '..', /the link leads out of the image/],
      ['the host by ..', () => '../../../victim', /the link leads out of the image/],
      ['the host by a name and ..', () => 'a/../../../../victim', /the link leads out of the image/],
      ['the host by its name', host => `${host}/victim`, missing],
      ['the host by a link', () => 'out/victim', missing, host => [symlink('out', host)]],
      ['the host by a link up', () => 'up/victim', missing, () => [symlink('up', '../../..')]],
      ['a descriptor', () => '/proc/self/fd/3', missing],
      ['what is not there', () => 'no', missing],
      ['themselves', () => 'h', missing],
      ['a loop', () => 'a/x', missing, () => [symlink('a', 'b'), symlink('b', 'a')]],
      ['.', () => '.', /the link leads out of the image/],
      ['/', () => '/', /the link leads out of the image/],
      ['a directory', () => 'd', /a directory cannot have a second name/, () => [dir('d')]],
      ['what a whiteout hides', () => 'gone', missing, () => [file('.wh.gone', '')]],
      ['a name of 256 bytes', () => 'n'.repeat(256), missing],
    ];
    for (const [name, target, ends, entries = () => []] of targets)
      it(`${name} are refused`, async () => {
        for (const layer of link(target(canary.dir), entries(canary.dir)))
          judge(await canary.unpack(tar(layer)), ends, name);
      });
    const same = (a: string, b: string) => assert.equal(stat(a).ino, stat(b).ino);
    rows([
      ['nothing', () => [{ path: 'h', type: 'hardlink' }], /the link leads out of the image/],
      ['more than 4095 bytes', () => [hardlink('h', 'a/'.repeat(2048))], /a name is longer than 4095 bytes/],
      ['NUL by PAX', () => [{ ...hardlink('h', 'a\0b'), names: 'pax!' }], /a PAX header is malformed/],
      ['themselves, when they are there', () => [file('h'), hardlink('h', 'h')], () => assert.equal(text('h'), 'x')],
      [
        'a FIFO and a device',
        () => [{ path: 'p', type: 'fifo' }, { path: 'c', type: 'char' }, hardlink('q', 'p')],
        () => same('p', 'q'),
      ],
      [
        'a link to a program of the host, then made set-id',
        host => [
          symlink('s', `${host}/bin/su`),
          { ...hardlink('h', 's'), ...special },
          { ...file('h'), ...special, mode: 0o6777 },
        ],
        () => assert.deepEqual([stat('h').isFile(), stat('s').isSymbolicLink()], [true, true]),
      ],
      [
        'a link of the host, with attributes',
        host => [
          symlink('s', `${host}/victim`),
          { ...hardlink('h', 's'), pax: { 'SCHILY.xattr.user.a': 'b' }, mode: 0o777, mtime: 1 },
        ],
        () => same('h', 's'),
      ],
      [
        'contents that they bring',
        () => [file('a'), { ...hardlink('h', 'a'), size: 512 }, file('b')],
        holds('a', 'b', 'h'),
      ],
      ['a file of the layer below', () => [hardlink('h', 'f')], () => assert.equal(text('h'), 'below'), 'lower'],
      [
        'a program of the layer below',
        () => [{ ...hardlink('h', 'su'), mode: 0o777 }],
        () => assert.deepEqual([stat('h').mode & 0o7777, text('h')], [0o4755, 'su below']),
        'lower',
      ],
      [
        'a link of the layer below',
        () => [hardlink('h', 'victim-link')],
        () => assert.ok(stat('h').isSymbolicLink()),
        'lower',
      ],
      ['the host by a link of the layer below', () => [hardlink('h', 'out/victim')], missing, 'lower'],
      [
        'a device of the layer below',
        () => [hardlink('h', 'disk')],
        () => assert.deepEqual([stat('h').rdev, stat('h').uid, stat('h').mtimeMs], [0x801, 3, 1_500_000_001_000]),
        'lower',
      ],
      [
        'a FIFO of the layer below',
        () => [hardlink('h', 'pipe')],
        () => assert.equal(stat('h').mode, 0o10622),
        'lower',
      ],
      ['a directory of the layer below', () => [hardlink('h', 'd')], /a directory cannot have a second name/, 'lower'],
      ['what the layer hides', () => [file('.wh.f', ''), hardlink('h', 'f')], missing, 'lower'],
      ['what is not known yet', () => [hardlink('h', 'f')], outcome => assert.ok(outcome.needsChain), 'unknown'],
    ]);
  });

  describe('with symbolic links to', () => {
    rows([
      ['nothing', () => [symlink('l', '')], /a symbolic link must lead somewhere/],
      ['NUL by PAX', () => [{ ...symlink('l', 'a\0b'), names: 'pax!' }], /a PAX header is malformed/],
      ['4095 bytes', () => [symlink('l', 'a'.repeat(4095))], () => assert.equal(readlinkSync(at('l')).length, 4095)],
      ['more than 4095 bytes', () => [symlink('l', 'a'.repeat(4096))], /a name is longer than 4095 bytes/],
      [
        'bytes that are no text',
        () => [symlink('l', '\xff\n')],
        () => assert.deepEqual(readlinkSync(at('l'), 'buffer'), bytes('\xff\n')),
      ],
      [
        'the host, with attributes',
        host => [
          {
            ...symlink('l', `${host}/victim`),
            mode: 0o4777,
            uid: 5,
            mtime: 1,
            pax: { 'SCHILY.xattr.user.a': 'b', 'SCHILY.xattr.security.capability': 'x' },
          },
        ],
        () => assert.deepEqual([stat('l').uid, stat('l').mtimeMs, xattrsBelow(canary.target).size], [5, 1000, 0]),
      ],
    ]);
  });

  describe('with whiteouts', () => {
    const nothing = /the whiteout names nothing that it could hide; such a layer is refused/;
    const opaque = (path: string) => () =>
      assert.equal(xattrsBelow(canary.target).get(path), 'trusted.overlay.opaque=0x79');
    const kinds: readonly [string, Partial<TarEntry>][] = [
      ['files', { data: 'contents' }],
      ['directories', { type: 'dir' }],
      ['symlinks', { type: 'symlink', link: '../../../victim' }],
      ['hard links', { type: 'hardlink', link: 'a' }],
      ['devices', { type: 'char', major: 1, minor: 3 }],
      ['FIFOs', { type: 'fifo' }],
    ];
    rows([
      ...kinds.flatMap(([title, more]): Row[] => [
        [`of nothing, by ${title}`, () => [file('a'), { path: '.wh.', ...more }], nothing],
        [`of ., by ${title}`, () => [file('a'), { path: '.wh..', ...more }], nothing],
        [`of .., by ${title}`, () => [file('a'), { path: '.wh...', ...more }], nothing],
        [`of .. in a directory, by ${title}`, () => [file('a'), { path: 'd/.wh...', ...more }], nothing],
        [`of a directory on the way, by ${title}`, () => [file('a'), { path: '.wh.d/x', ...more }], nothing],
        [`of an opaque mark, by ${title}`, () => [file('a'), { path: '.wh..wh..opq/x', ...more }], holds('a')],
        [
          `of AUFS, by ${title}`,
          () => [file('a'), { path: '.wh..wh.aufs', ...more }, { path: '.wh..wh.plnk/1.2', ...more }],
          holds('a'),
        ],
        [
          `almost opaque, by ${title}`,
          () => [file('a'), { path: '.wh..wh..opqx', ...more }, { path: '.wh..wh..op', ...more }],
          holds('a'),
        ],
        [`opaque, by ${title}`, () => [file('a'), { path: '.wh..wh..opq', ...more }], opaque('')],
        [`opaque below, by ${title}`, () => [file('a'), { path: 'd/e/.wh..wh..opq', ...more }], opaque('d/e')],
      ]),
      ['of a whiteout', () => [file('.wh..wh')], () => assert.equal(stat('.wh').rdev, 0)],
      ['with .. behind them', () => [file('a'), file('.wh.d/../x')], holds('a', 'x')],
      [
        'of the host by a link',
        host => [symlink('l', host), file('l/.wh.victim'), file('l/.wh..wh..opq')],
        () => assert.equal(stat(`${canary.dir}/victim`).rdev, 0),
      ],
      [
        'of a link to the host',
        host => [symlink('l', host), file('.wh.l')],
        () => assert.ok(stat('l').isSymbolicLink()),
      ],
      ['of what the layer has, twice', () => [dir('d'), file('d/a'), file('.wh.d'), file('.wh.d')], opaque('d')],
      [
        'that are devices already',
        () => [{ path: 'x', type: 'char', major: 0, minor: 0 }],
        () => assert.equal(stat('x').rdev, 0),
      ],
    ]);
  });

  describe('with extended attributes', () => {
    const capability = '0100000200040000000000000000000000000000';
    const attributes = (type: NonNullable<TarEntry['type']>, values: Record<string, Buffer | string>): TarEntry => ({
      ...{ path: 'x', type, major: 1, minor: 3, link: 'y' },
      pax: Object.fromEntries(Object.entries(values).map(([key, value]) => [`SCHILY.xattr.${key}`, value])),
    });
    const has = (expected: string) => () => assert.equal(xattrsBelow(canary.target).get('x') ?? '', expected);
    const dropped = {
      ...{ 'trusted.overlay.opaque': 'y', 'trusted.overlay.redirect': '/etc', 'trusted.overlay.metacopy': '' },
      ...{ 'trusted.overlay.origin': 'x', 'trusted.anything': 'x', 'trusted.': 'x' },
      ...{ 'user.overlay.opaque': 'y', 'user.overlay.redirect': '/etc', 'user.overlay.whiteout': 'y' },
      ...{
        'security.selinux': 'system_u:object_r:shadow_t:s0',
        'security.ima': 'x',
        'security.evm': 'x',
        'security.SMACK64': '_',
      },
      ...{ 'system.posix_acl_access': 'x', 'system.posix_acl_default': 'x', 'system.nfs4_acl': 'x' },
      ...{ 'os2.x': 'x', 'btrfs.compression': 'zlib', nothing: 'x', 'User.a': 'x', ' user.a': 'x' },
    };
    const malformed = /an extended attribute is malformed; such a layer is refused/;
    rows([
      ['that are not for images, of files', () => [attributes('file', dropped)], has('')],
      ['that are not for images, of directories', () => [attributes('dir', dropped)], has('')],
      ['that are not for images, of symlinks', () => [attributes('symlink', dropped)], has('')],
      ['that are not for images, of devices', () => [attributes('char', dropped)], has('')],
      ['that are not for images, of FIFOs', () => [attributes('fifo', dropped)], has('')],
      [
        'of every byte',
        () => [attributes('file', { 'user.a': Buffer.from('000a3dff', 'hex'), 'user.b=c': '=', 'user.\xc3\xa9': 'e' })],
        () => assert.match(xattrsBelow(canary.target).get('x') ?? '', /^user\.a=0x000a3dff /),
      ],
      ['of a user, of directories', () => [attributes('dir', { 'user.a': 'b' })], has('user.a=0x62')],
      [
        'with capabilities',
        () => [attributes('file', { 'security.capability': Buffer.from(capability, 'hex') })],
        has(`security.capability=0x${capability}`),
      ],
      [
        'with capabilities of directories',
        () => [attributes('dir', { 'security.capability': Buffer.from(capability, 'hex') })],
        has(''),
      ],
      ['with capabilities that are empty', () => [attributes('file', { 'security.capability': '' })], malformed],
      [
        'with capabilities that are cut off',
        () => [attributes('file', { 'security.capability': Buffer.from(capability.slice(0, 20), 'hex') })],
        malformed,
      ],
      [
        'with capabilities of no version',
        () => [attributes('file', { 'security.capability': Buffer.from(capability.replace('02', '09'), 'hex') })],
        malformed,
      ],
      ['without a name', () => [attributes('file', { 'user.': 'x' })], malformed],
      [
        'with a name of 256 bytes',
        () => [attributes('file', { [`user.${'n'.repeat(251)}`]: 'x' })],
        /the name of an extended attribute is too long/,
      ],
      [
        'with a value of 65,537 bytes',
        () => [attributes('file', { 'user.a': 'x'.repeat(65_537) })],
        /its extended attributes are too large/,
      ],
      [
        'more than the file system holds',
        () => [attributes('file', { 'user.a': 'x'.repeat(60_000) })],
        /its extended attributes are too large/,
      ],
      [
        'in great number',
        () => [attributes('file', Object.fromEntries(Array.from({ length: 129 }, (_, i) => [`user.${i}`, 'x'])))],
        /an entry has more than 128 extended attributes/,
      ],
      [
        'of set-id programs',
        () => [
          { ...attributes('file', { 'security.capability': Buffer.from(capability, 'hex') }), mode: 0o6755, uid: 1000 },
        ],
        () => assert.equal(stat('x').mode & 0o7777, 0o6755),
      ],
    ]);
  });

  describe('with numbers', () => {
    const base256 = (value: bigint, length: number) => {
      const field = Buffer.alloc(length, value < 0n ? 0xff : 0);
      for (let i = length - 1, rest = BigInt.asUintN(length * 8 - 1, value); i >= 0; i--, rest >>= 8n)
        field[i] = Number(rest & 0xffn);
      field[0] = (field[0] ?? 0) | 0x80;
      return field;
    };
    const raw = (at: number, value: Buffer | string) => ({ ...file('x'), raw: { [at]: value } });
    const [mode, uid, gid, size, mtime, checksum] = [100, 108, 116, 124, 136, 148];
    const owner = /a tar header has an impossible owner/;
    const wrong = /a tar header has a malformed number/;
    const sizes = /a tar header has an impossible size/;
    rows([
      ['of owners below zero', () => [raw(uid, base256(-1n, 8))], owner],
      ['of groups below zero', () => [raw(gid, base256(-5n, 8))], owner],
      ['of owners of 32 bits', () => [raw(uid, base256(0xffff_ffffn, 8))], owner],
      ['of owners of 33 bits', () => [raw(gid, base256(0x1_0000_0000n, 8))], owner],
      ['of owners by PAX below zero', () => [{ ...file('x'), pax: { uid: '-1' } }], /a PAX header is malformed/],
      [
        'of owners by PAX of 64 bits',
        () => [{ ...file('x'), pax: { uid: '18446744073709551616' } }],
        /a PAX header is malformed/,
      ],
      [
        'of the highest owner',
        () => [raw(uid, base256(0xffff_fffen, 8))],
        () => assert.equal(stat('x').uid, 0xffff_fffe),
      ],
      ['of owners that are text', () => [raw(uid, 'root   \0')], wrong],
      ['of modes with more bits', () => [raw(mode, '7777777\0')], () => assert.equal(stat('x').mode, 0o107777)],
      ['of modes by base 256', () => [raw(mode, base256(-1n, 8))], () => assert.equal(stat('x').mode, 0o107777)],
      ['of modes that are text', () => [raw(mode, '0x644  \0')], wrong],
      ['of sizes below zero', () => [raw(size, base256(-512n, 12))], sizes],
      ['of sizes of 95 bits', () => [raw(size, base256(1n << 90n, 12))], sizes],
      ['of sizes of 63 bits', () => [raw(size, base256((1n << 63n) - 1n, 12))], sizes],
      ['of sizes that are text', () => [raw(size, '1e3        \0')], sizes],
      ['of sizes by PAX below zero', () => [{ ...file('x'), pax: { size: '-1' } }], /a PAX header is malformed/],
      ['of sizes by PAX with spaces', () => [{ ...file('x'), pax: { size: ' 1' } }], /a PAX header is malformed/],
      ['of times below zero', () => [raw(mtime, base256(-1n, 12))], () => assert.equal(stat('x').mtimeMs, -1000)],
      ['of times of 63 bits', () => [raw(mtime, base256((1n << 62n) - 1n, 12))], holds('x')],
      ['of times of the far past', () => [raw(mtime, base256(-(1n << 62n), 12))], holds('x')],
      [
        'of times by PAX of the far future',
        () => [{ ...file('x'), pax: { mtime: '999999999999999999.999999999999' } }],
        holds('x'),
      ],
      [
        'of times by PAX with an exponent',
        () => [{ ...file('x'), pax: { mtime: '1e9' } }],
        /a PAX header is malformed/,
      ],
      [
        'of times by PAX that are no number',
        () => [{ ...file('x'), pax: { mtime: 'nan' } }],
        /a PAX header is malformed/,
      ],
      ['of checksums', () => [wrongChecksum(checksum)], /a tar header has a wrong checksum/],
      [
        'of devices below zero',
        () => [{ path: 'x', type: 'char', raw: { 329: base256(-1n, 8) } }],
        /an impossible device number/,
      ],
      [
        'of devices of 33 bits',
        () => [{ path: 'x', type: 'block', raw: { 337: base256(1n << 32n, 8) } }],
        /an impossible device number/,
      ],
      ['of devices, of files', () => [raw(329, base256(-1n, 8))], holds('x')],
    ]);
  });

  describe('that grow', () => {
    const zeros = gzipSync(Buffer.alloc(64 * 1024 * 1024), { level: 9 });
    it('to ten gigabytes out of ten megabytes are refused before that is on the disk', async () => {
      const size = 10 * 2 ** 30;
      const head = tar([{ path: 'zeros', pax: { size: `${size}` } }], { end: false });
      const bomb = Buffer.concat([gzipSync(head), ...Array.from({ length: size / 2 ** 26 }, () => zeros)]);
      assert.ok(bomb.length < 11 * 1024 * 1024);
      judge(await canary.unpack(bomb), /entry "zeros": it grows to more than 200 times its size/, 'a bomb');
      assert.deepEqual(names(), []);
    });

    it('in many entries are refused where the limit is', () => {
      const piece = tar([{ path: 'piece', data: Buffer.alloc(2 ** 20) }], { end: false });
      const bomb = gzipSync(Buffer.concat(Array.from({ length: 64 }, () => piece)));
      const run = unpackTar(bomb, join(canary.work, 'bomb'), { maxBytes: 32 * 2 ** 20 });
      assert.equal(run.step, 'too-large');
    });
  });

  describe('with contents', () => {
    const early = /it ends early; the image is damaged/;
    const map = /its map of a sparse file is malformed/;
    const sparseOf = (more: Record<string, string>): TarEntry => ({
      ...file('x', 'ab'),
      pax: { 'GNU.sparse.size': '100', 'GNU.sparse.numblocks': '1', ...more },
    });
    const huge = 2 ** 43;
    rows([
      ['shorter than they say', () => [{ ...file('x', 'ab'), size: 100_000 }], early],
      ['that end in the header', () => [tar([file('x')]).subarray(0, 300)], /it ends early|checksum/],
      [
        'longer than they say',
        () => [{ ...file('x', 'a'.repeat(2000)), size: 512 }],
        /a tar header has a wrong checksum/,
      ],
      [
        'of gigabytes that do not come',
        () => [{ ...file('x'), pax: { size: `${10 * 2 ** 30}` } }],
        /it grows to more than 200 times its size/,
      ],
      [
        'of the largest file',
        () => [{ ...file('x'), pax: { size: '900000000000000000' } }],
        /it grows to more than 200 times its size/,
      ],
      [
        'of types that nobody knows',
        () => [{ ...file('x'), raw: { 156: 'Z' } }],
        /entries of its type are not supported/,
      ],
      ['of many volumes', () => [{ ...file('x'), raw: { 156: 'M' } }], /entries of its type are not supported/],
      ['of directories', () => [{ ...dir('x'), size: 100_000 }, file('y')], holds('x', 'y')],
      ['of symlinks', () => [{ ...symlink('x', 'y'), size: 100_000 }, file('y')], holds('x', 'y')],
      ['of devices', () => [{ path: 'x', type: 'char', size: 100_000 }, file('y')], holds('x', 'y')],
      ['of PAX headers that nothing follows', () => [paxOnly('path', 'x')], early],
      ['of PAX headers of length 0', () => [paxRaw('0 path=x\n'), file('a')], /a PAX header is malformed/],
      ['of PAX headers too short', () => [paxRaw('5 path=x\n'), file('a')], /a PAX header is malformed/],
      ['of PAX headers too long', () => [paxRaw('99 path=x\n'), file('a')], /a PAX header is malformed/],
      ['of PAX headers with negative lengths', () => [paxRaw('-9 path=x\n'), file('a')], /a PAX header is malformed/],
      [
        'of PAX headers of many digits',
        () => [paxRaw(`${'9'.repeat(30)} path=x\n`), file('a')],
        /a PAX header is malformed/,
      ],
      ['of PAX headers without =', () => [paxRaw('8 pathx\n'), file('a')], /a PAX header is malformed/],
      ['of PAX headers without a key', () => [paxRaw('5 =x\n'), file('a')], /a PAX header is malformed/],
      ['of 100,000 PAX records', () => [paxRaw('9 a=bcde\n'.repeat(100_000)), file('a')], holds('a')],
      [
        'of ten million PAX records',
        () => [{ path: 'pax', raw: { 156: 'x' }, size: 90_000_000 }],
        /a PAX header or a long name is too long/,
      ],
      [
        'of 2,000 PAX headers',
        () => [...Array.from({ length: 2000 }, () => paxOnly('path', '../x')), { path: 'b', pax: { path: 'a' } }],
        holds('a'),
      ],
      ['of sparse maps that overlap', () => [sparseOf({ 'GNU.sparse.map': '0,1,0,1' })], map],
      ['of sparse maps past the end', () => [sparseOf({ 'GNU.sparse.map': '99,2' })], map],
      ['of sparse maps with more than comes', () => [sparseOf({ 'GNU.sparse.map': '0,50' })], map],
      ['of sparse maps with less than comes', () => [sparseOf({ 'GNU.sparse.map': '0,1' })], map],
      ['of sparse maps that wrap around', () => [sparseOf({ 'GNU.sparse.map': '999999999999999999,2' })], map],
      ['of sparse maps with half a piece', () => [sparseOf({ 'GNU.sparse.map': '0,1,5' })], map],
      ['of sparse maps below zero', () => [sparseOf({ 'GNU.sparse.map': '-1,2' })], map],
      [
        'of sparse files of form 2.0',
        () => [sparseOf({ 'GNU.sparse.major': '2' })],
        /its form of sparse file is not known/,
      ],
      [
        'of sparse maps of a billion pieces',
        () => [{ ...sparse('1.0', file('x'), 9, []), data: Buffer.from('1000000000\n'.padEnd(512, '\0'), 'latin1') }],
        /more than a million pieces/,
      ],
      ['of sparse maps that end nowhere', () => [{ ...sparse('1.0', file('x'), 9, []), data: '5' }], map],
      ['of sparse directories', () => [{ ...sparse('0.1', file('x'), 9, []), type: 'dir' }], map],
      [
        'of old sparse maps of a million pieces',
        () => [longSparseMap(50_000)],
        /a sparse file has more than a million pieces/,
      ],
      ['of sparse names that lead out', () => [sparse('1.0', file('../x'), 2, [[0, 'ab']])], leadsOut],
      ...sparseForms.map((form): Row => [
        `of eight terabytes of holes, of form ${form}`,
        () => [sparse(form, file('x'), huge, [[huge - 2, 'ab']])],
        () => assert.deepEqual([stat('x').size, stat('x').blocks <= 64], [huge, true]),
      ]),
      ...sparseForms
        .slice(1)
        .map((form): Row => [
          `of more holes than a file can have, of form ${form}`,
          () => [sparse(form, file('x'), 2 ** 59, [])],
          /it is larger than a file can be; such a layer is refused/,
        ]),
      [
        'of a piece where no file has any',
        () => [sparse('1.0', file('x'), 2 ** 53, [[2 ** 52, 'ab']])],
        /it is larger than a file can be; such a layer is refused/,
      ],
    ]);
  });
});

describe('a layer whose directories somebody else swaps for links while it is unpacked', function () {
  this.timeout(60_000);

  it('changes nothing outside', async () => {
    await using canary = Canary.make(lowerEntries);
    const entries = Array.from({ length: 400 }, (_, i): TarEntry[] => [
      { ...file(`a/b/f${i}`), ...special },
      { ...dir(`c/d${i}`), mode: 0o7777 },
      { ...file(`c/d${i}/f`), pax: { 'SCHILY.xattr.user.a': 'b' } },
      file(`a/.wh.victim${i % 2}`, ''),
      { ...file('victim'), mode: 0o4777 },
      hardlink(`c/h${i}`, `a/b/f${i}`),
      symlink(`a/l${i}`, '../../..'),
      file('c/.wh..wh..opq', ''),
      { ...dir('a/b'), mode: 0o777, mtime: i },
      { path: `a/b/p${i}`, type: 'fifo' },
    ]);
    const layer = tar([dir('a'), dir('a/b'), dir('c'), ...entries.flat()]);
    let swaps = 0;
    for (let round = 0; swaps < 1000; round++) {
      await using swapper = new Swapper(canary);
      await canary.unpack(layer, round % 2 === 0 ? 'lower' : 'nothing', () => swapper.start());
      swaps += await swapper.stop();
      assert.deepEqual(canary.changes(), []);
    }
  });
});

/** A process that swaps. */
class Swapper implements AsyncDisposable {
  private child: ChildProcessByStdio<null, Readable, null> | undefined;
  private readonly file: string;
  private said = '';

  constructor(private readonly canary: Canary) {
    this.file = join(canary.work, 'stop');
    rmSync(this.file, { force: true });
  }

  /** Resolves when it is at it. */
  async start(): Promise<void> {
    const { target, dir: host } = this.canary;
    this.child = spawn(process.execPath, ['-e', swap, target, host, this.file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.child.stdout.on('data', (chunk: Buffer) => (this.said += chunk.toString()));
    await once(this.child.stdout, 'data');
  }

  /** How many swaps there were. */
  async stop(): Promise<number> {
    writeFileSync(this.file, '');
    if (this.child) await once(this.child, 'close');
    return Number(this.said.trim().split('\n').pop());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child?.exitCode === null && this.child.kill('SIGKILL')) await once(this.child, 'close');
  }
}

/**
 * Puts links out in the place of directories and files, and back, until there is a file that says stop, and then says
 * how often; not for ever, since unpacking is polite and would wait for its turn.
 */
const swap = `
  const fs = require('node:fs');
  const [target, host, stop] = process.argv.slice(1);
  const attempt = work => { try { work(); return true; } catch { return false; } };
  let swaps = 0;
  for (const dir of ['a', 'a/b', 'c']) fs.mkdirSync(target + '/' + dir);
  console.log('0');
  while (swaps < 3000 && !fs.existsSync(stop))
    for (const [name, link] of [['a', host], ['a/b', host + '/dir'], ['c', '../../..'], ['victim', host + '/victim']]) {
      const path = target + '/' + name;
      if (!attempt(() => fs.renameSync(path, target + '/aside'))) continue;
      if (attempt(() => fs.symlinkSync(link, path))) swaps++;
      attempt(() => fs.unlinkSync(path));
      attempt(() => fs.renameSync(target + '/aside', path));
    }
  console.log(swaps);
`;

function globalPax(key: string, value: string): Buffer {
  return withFlag(paxOnly(key, value), 'g');
}

/** A PAX header of one record, whatever follows. */
function paxOnly(key: string, value: string): Buffer {
  const whole = tar([{ path: 'x', pax: { [key]: value } }], { end: false });
  return whole.subarray(0, 1024);
}

/** A PAX header with these bytes for records. */
function paxRaw(records: string): Buffer {
  return tar([{ path: 'pax', data: Buffer.from(records, 'latin1'), raw: { 156: 'x' } }], { end: false });
}

/** Old GNU tar's map goes on in blocks after the header, as long as each says that another follows. */
function longSparseMap(blocks: number): Buffer {
  const block = Buffer.concat([Buffer.from('00000000000\0'.repeat(42)), Buffer.from('\x01'), Buffer.alloc(7)]);
  const entry = sparse('old GNU', file('x'), 9, []);
  const raw = { ...entry.raw, 386: '00000000000\0'.repeat(8), 482: '\x01' };
  return Buffer.concat([tar([{ ...entry, raw }], { end: false }), ...Array.from({ length: blocks }, () => block)]);
}

function withFlag(blocks: Buffer, flag: string): Buffer {
  const [first, rest] = [
    tar([{ path: 'pax', size: Number.parseInt(blocks.toString('latin1', 124, 135), 8), raw: { 156: flag } }], {
      end: false,
    }),
    blocks.subarray(512),
  ];
  return Buffer.concat([first.subarray(0, 512), rest]);
}

function wrongChecksum(at: number): Buffer {
  const block = tar([file('x')], { end: false });
  block.write('0000001', at, 'latin1');
  return block;
}
