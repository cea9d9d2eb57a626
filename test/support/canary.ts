import { execFileSync } from 'node:child_process';
import { chmodSync, linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestOf } from '../../src/image/digest';
import { removeDirectory, unpackLayer, type LayerBytes, type UnpackRequest } from '../../src/image/unpack/unpack';
import { verifyLayer, type Finding } from '../../src/image/unpack/verify';
import { tar, type TarEntry } from './image-builder';
import { differences, treeOf, type Tree } from './tree';
import { unpackTar } from './unpack';

/** How the unpacking of a hostile layer ended. */
export interface Outcome {
  /** The sentence with which it was refused; undefined when it was unpacked. */
  readonly refused: string | undefined;
  readonly kind: string | undefined;
  /** It is right only on its chain. */
  readonly needsChain: boolean;
}

/**
 * A piece of a host, all that an attack may want to reach, with the directory in its middle that layers are unpacked
 * into. What is outside of that directory is compared with what it was.
 */
export class Canary {
  readonly target: string;
  /** The directory of a layer below, with links, devices and files of its own. */
  readonly lower: string;
  /** For what tests need that is not of this host. */
  readonly work = mkdtempSync(join(tmpdir(), 'berth-layer-'));
  private before: Tree;
  private whole: Tree;

  private constructor(readonly dir: string) {
    this.target = join(dir, 'run/layers/target');
    this.lower = join(dir, 'run/lower');
    this.before = this.whole = new Map();
  }

  /** `lower` are the entries of the layer below. */
  static make(lower: (host: string) => readonly TarEntry[]): Canary {
    const canary = new Canary(mkdtempSync(join(tmpdir(), 'berth-canary-')));
    const at = (...path: string[]) => join(canary.dir, ...path);
    for (const path of ['etc', 'bin', 'dir/inner', 'run/layers', 'opaque', 'tmp'])
      mkdirSync(at(path), { recursive: true });
    chmodSync(at('tmp'), 0o1777);
    writeFileSync(at('victim'), 'untouched', { mode: 0o600 });
    linkSync(at('victim'), at('hard'));
    writeFileSync(at('etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n', { mode: 0o644 });
    writeFileSync(at('etc/shadow'), 'root:!::\n', { mode: 0o640 });
    writeFileSync(at('dir/inner/file'), 'inner');
    writeFileSync(at('bin/su'), 'su', { mode: 0o755 });
    chmodSync(at('bin/su'), 0o4755);
    symlinkSync('victim', at('link'));
    execFileSync('mkfifo', [at('fifo')]);
    execFileSync('mknod', [at('null'), 'c', '1', '3']);
    execFileSync('setfattr', ['-n', 'user.mark', '-v', 'here', at('victim')]);
    execFileSync('setfattr', [
      '-n',
      'security.capability',
      '-v',
      '0x0100000200040000000000000000000000000000',
      at('bin/su'),
    ]);
    execFileSync('setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', at('opaque')]);
    const run = unpackTar(tar(lower(canary.dir)), canary.lower);
    if (run.step !== undefined) throw new Error(`the layer below: ${run.stderr}`);
    mkdirSync(canary.target);
    canary.acknowledge();
    return canary;
  }

  /** What has changed outside of the target since this was asked last, in lines. */
  changes(): string[] {
    const [before, now] = [this.before, this.look('times')];
    this.before = now;
    const beside = readdirSync(join(this.target, '..')).filter(name => name !== 'target');
    return [...differences(before, now), ...beside.map(name => `${name} is beside the target`)];
  }

  /** Unpacks a layer into a fresh target, as the daemon does; `whenEmpty` runs when the target is there. */
  async unpack(
    bytes: Buffer,
    below: 'nothing' | 'lower' | 'unknown' = 'nothing',
    whenEmpty: () => Promise<void> = () => Promise.resolve(),
  ): Promise<Outcome> {
    await this.clear();
    mkdirSync(this.target);
    await whenEmpty();
    writeFileSync(join(this.work, 'layer'), bytes);
    const manifest = await open(this.manifest, 'w+', 0o600);
    const file = await open(join(this.work, 'layer'), 'r');
    const request: UnpackRequest = {
      layer: { digest: digestOf(bytes), sizeBytes: bytes.length, mediaType: 'application/vnd.oci.image.layer.v1.tar' },
      diffId: digestOf(bytes), // of archives that are not compressed; others are refused before it is compared
      dir: this.target,
      below: below === 'lower' ? [this.lower] : below === 'nothing' ? 'none' : 'unknown',
      manifest,
    };
    const input: LayerBytes = { offset: 0, file, close: () => file.close() };
    try {
      const result = await unpackLayer(request, input, new AbortController().signal);
      return { refused: undefined, kind: undefined, needsChain: typeof result === 'symbol' };
    } catch (error) {
      if (!(error instanceof Error) || !('kind' in error)) throw error;
      return { refused: error.message, kind: String(error.kind), needsChain: false };
    } finally {
      await manifest.close();
    }
  }

  /** What the manifest of the last layer, which was unpacked, says that is not so. */
  async damage(): Promise<readonly Finding[]> {
    const { findings, manifestDamaged } = await verifyLayer(this.target, this.manifest);
    return manifestDamaged ? [{ word: 'manifest', path: '' }] : findings;
  }

  /** Everything outside is as it is to be from now on. */
  acknowledge(): void {
    this.before = this.look('times');
    this.whole = this.look('contents');
  }

  /** Also looks once more, at the contents of everything, too; throws when something has changed. */
  async destroy(): Promise<void> {
    await this.clear();
    const changed = differences(this.whole, this.look('contents'));
    if (changed.length > 0) throw new Error(`outside of the target: ${changed.join('\n')}`);
    for (const dir of [this.dir, this.work]) rmSync(dir, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }

  private get manifest(): string {
    return join(this.work, 'manifest');
  }

  private async clear(): Promise<void> {
    try {
      rmSync(this.target, { recursive: true, force: true });
    } catch {
      await removeDirectory(this.target); // too deep for Node
    }
  }

  /** Whatever changes changes the time of change, which nobody can set; looking at that alone is quick. */
  private look(what: 'times' | 'contents'): Tree {
    return treeOf(this.dir, { untouched: true, except: ['run/layers'], timesOnly: what === 'times' });
  }
}
