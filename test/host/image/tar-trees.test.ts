import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { isSound, verifyLayer } from '../../../src/image/unpack/verify';
import { differences, treeOf } from '../../support/tree';
import { unpackTar } from '../../support/unpack';

/** What GNU tar can write, and what of a tree has room there. */
const formats = {
  'pax 1.0': {
    flags: ['--format=pax', '--sparse', '--sparse-version=1.0'],
    isFull: true,
    owners: 2 ** 32 - 2,
    pathMax: 4000,
  },
  'pax 0.1': {
    flags: ['--format=pax', '--sparse', '--sparse-version=0.1'],
    isFull: true,
    owners: 2 ** 32 - 2,
    pathMax: 4000,
  },
  'pax 0.0': {
    flags: ['--format=pax', '--sparse', '--sparse-version=0.0'],
    isFull: true,
    owners: 2 ** 32 - 2,
    pathMax: 4000,
  },
  gnu: { flags: ['--format=gnu', '--sparse'], isFull: false, owners: 2 ** 32 - 2, pathMax: 4000 },
  ustar: { flags: ['--format=ustar'], isFull: false, owners: 2 ** 21 - 1, pathMax: 90 },
} as const;
type FormatName = keyof typeof formats;

const compressions: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  plain: bytes => bytes,
  gzip: bytes => gzipSync(bytes),
  'gzip of two members': bytes => Buffer.concat([gzipSync(bytes.subarray(0, 600)), gzipSync(bytes.subarray(600))]),
  zstd: bytes => execFileSync('zstd', ['-q', '-3', '-c'], { input: bytes, maxBuffer: 2 ** 28 }),
};

/** An object of a tree; `parent` and `target` are counted among those before it. */
interface Node {
  name: Buffer;
  parent: number;
  type: 'file' | 'dir' | 'symlink' | 'fifo' | 'char' | 'block' | 'hardlink';
  target: number;
  link: Buffer;
  pieces: { skip: number; data: Uint8Array }[];
  tail: number;
  mode: number;
  uid: number;
  gid: number;
  seconds: number;
  ns: number;
  xattrs: Map<string, Uint8Array>;
  isCapable: boolean;
}

const byte = fc.oneof(fc.integer({ min: 1, max: 255 }), fc.constantFrom(10, 32, 42, 92, 34, 0x80, 0xff, 0x7f));
const bytesOf = (min: number, max: number) =>
  fc.array(byte, { minLength: min, maxLength: max }).map(list => Buffer.from(list));
const nameOf = (max: number) =>
  fc
    .oneof({ weight: 3, arbitrary: bytesOf(1, Math.min(max, 12)) }, { weight: 1, arbitrary: bytesOf(1, max) })
    .map(name => Buffer.from(name.map(one => (one === 47 ? 46 : one))))
    .filter(name => !/^\.{1,2}$|^\.wh\./.test(name.toString('latin1')));

function nodeOf({ isFull, owners, pathMax }: (typeof formats)[FormatName]): fc.Arbitrary<Node> {
  const isLong = pathMax > 1000;
  const owner = fc.oneof(fc.constantFrom(0, 1000, owners), fc.integer({ min: 0, max: owners }));
  return fc.record({
    name: nameOf(isLong ? 255 : 20),
    parent: fc.nat(),
    type: fc.constantFrom('file', 'file', 'file', 'dir', 'dir', 'symlink', 'fifo', 'char', 'block', 'hardlink'),
    target: fc.nat(),
    link: bytesOf(1, isLong ? 300 : 90),
    pieces: fc.array(
      fc.record({
        skip: fc.oneof(fc.constant(0), fc.constantFrom(4096, 65536, 1_000_000)),
        data: fc.uint8Array({ minLength: 1, maxLength: 3000 }),
      }),
      { maxLength: 6 },
    ),
    tail: fc.constantFrom(0, 0, 0, 1, 512, 100_000),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: owner,
    gid: owner,
    seconds: fc.integer({ min: isLong ? -(2 ** 31) : 0, max: 2 ** 33 - 1 }),
    ns: isFull ? fc.integer({ min: 0, max: 999_999_999 }) : fc.constant(0),
    xattrs: isFull
      ? fc
          .array(fc.tuple(fc.stringMatching(/^user\.[a-z.]{1,20}$/), fc.uint8Array({ maxLength: 100 })), {
            maxLength: 3,
          })
          .map(pairs => new Map(pairs))
      : fc.constant(new Map<string, Uint8Array>()),
    isCapable: isFull ? fc.boolean() : fc.constant(false),
  });
}

interface Made {
  readonly path: Buffer;
  readonly isDir: boolean;
  /** What its hard links are the same as. */
  readonly node: Node;
}

/** Makes the tree; nodes whose name is taken, or whose path would be too long, are left out. */
function make(root: string, nodes: readonly Node[], pathMax: number): void {
  mkdirSync(root);
  const made: Made[] = [];
  const dirs: Buffer[] = [Buffer.from(root)];
  const taken = new Set<string>();
  for (const node of nodes) {
    const parent = dirs[node.parent % dirs.length] ?? Buffer.from(root);
    const path = Buffer.concat([parent, Buffer.from('/'), node.name]);
    const key = path.toString('latin1');
    if (taken.has(key) || path.length - root.length > pathMax) continue;
    const others = made.filter(({ node: { type } }) => type === 'file' || type === 'symlink'); // GNU tar knows no others
    const target = others[node.target % Math.max(others.length, 1)];
    if (node.type === 'hardlink' && !target) continue;
    taken.add(key);
    if (node.type === 'hardlink' && target) linkSync(target.path, path);
    else made.push(makeOne(path, node));
    if (node.type === 'dir') dirs.push(path);
  }
  describeAll(root, made);
}

function makeOne(path: Buffer, node: Node): Made {
  const text = path.toString('latin1');
  if (node.type === 'dir') mkdirSync(path);
  else if (node.type === 'symlink') symlinkSync(node.link, path);
  else if (node.type === 'file') fill(path, node);
  else mknod(text, node);
  return { path, isDir: node.type === 'dir', node };
}

function mknod(path: string, { type, target }: Node): void {
  const device = type === 'fifo' ? ['p'] : [type === 'char' ? 'c' : 'b', `${1 + (target % 250)}`, `${target % 70_000}`];
  shell(`mknod ${quoted(path)} ${device.join(' ')}`);
}

function fill(path: Buffer, { pieces, tail }: Node): void {
  const fd = openSync(path, 'wx');
  let at = 0;
  for (const { skip, data } of pieces) {
    writeSync(fd, data, 0, data.length, at + skip);
    at += skip + data.length;
  }
  ftruncateSync(fd, at + tail);
  closeSync(fd);
}

/** Owners before modes, which they change; both before attributes and times; directories last, and the deepest of them first. */
function describeAll(root: string, made: readonly Made[]): void {
  const script: string[] = [];
  const attributes: string[] = [];
  for (const { path, isDir, node } of [...made].reverse().sort((a, b) => Number(a.isDir) - Number(b.isDir))) {
    lchownSync(path, node.uid, node.gid);
    const isPlain = node.type === 'file' || isDir;
    // A change of owner takes a device's set-id bits, which nobody has a use for.
    if (node.type !== 'symlink') chmodSync(path, isPlain ? node.mode : node.mode & 0o1777);
    const own = isPlain ? [...node.xattrs] : [];
    if (node.type === 'file' && node.isCapable)
      own.push(['security.capability', Buffer.from('0100000200040000000000000000000000000000', 'hex')]);
    if (own.length > 0)
      attributes.push(
        `# file: ${escaped(path)}\n${own.map(([name, value]) => `${name}=0x${Buffer.from(value).toString('hex')}\n`).join('')}\n`,
      );
    script.push(`touch -h -d @${node.seconds}.${`${node.ns}`.padStart(9, '0')} -- ${quoted(path.toString('latin1'))}`);
  }
  const dump = `${root}.attributes`;
  writeFileSync(dump, attributes.join(''), 'latin1');
  execFileSync('setfattr', [`--restore=${dump}`]);
  shell([...script, `touch -d @1234567 ${root}`].join('\n'));
}

/** In bash's own words, since names are bytes. */
function shell(script: string): void {
  execFileSync('bash', ['-e'], {
    input: Buffer.from(script, 'latin1'),
    env: { LC_ALL: 'C', PATH: process.env['PATH'] },
  });
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function escaped(path: Buffer): string {
  const octal = (one: string) => `\\${one.charCodeAt(0).toString(8).padStart(3, '0')}`;
  return path.toString('latin1').replace(/[^\w/.-]/g, octal);
}

describe('random trees', function () {
  this.timeout(120_000);
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'berth-trees-'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  for (const format of Object.keys(formats) as FormatName[])
    it(`come out of GNU tar's ${format} as they went in`, async () => {
      const { flags, isFull, pathMax } = formats[format];
      const archiveOf = (tree: string) =>
        execFileSync(
          'tar',
          [...flags, ...(isFull ? ['--xattrs', '--xattrs-include=*'] : []), '--numeric-owner', '-C', tree, '-c', '.'],
          { maxBuffer: 2 ** 28 },
        );
      await fc.assert(
        fc.asyncProperty(
          fc.array(nodeOf(formats[format]), { minLength: 1, maxLength: 25 }),
          fc.constantFrom(...Object.keys(compressions)),
          async (nodes, compression) => {
            const [tree, layer] = [join(root, 'tree'), join(root, 'layer')];
            for (const dir of [tree, layer]) rmSync(dir, { recursive: true, force: true });
            make(tree, nodes, pathMax);
            const bytes = (compressions[compression] ?? Buffer.from)(archiveOf(tree));
            const run = unpackTar(bytes, layer, { manifest: join(root, 'manifest') });
            assert.equal(run.step, undefined, run.stderr);
            assert.deepEqual(differences(treeOf(tree), treeOf(layer)), []);
            assert.ok(isSound(await verifyLayer(layer, join(root, 'manifest'))));
          },
        ),
        {
          numRuns: 12,
          seed: Number(process.env['BERTH_TEST_SEED'] ?? 20261127),
          endOnFailure: false,
          interruptAfterTimeLimit: 60_000,
        },
      );
    });
});
