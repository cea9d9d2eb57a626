import { BerthError } from '../../base/errors';

/** An object of a layer, by the letter that the manifest has for its type. */
export interface ManifestEntry {
  readonly type: 'd' | 'f' | 'l' | 'c' | 'b' | 'p';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** A hash of the extended attributes, in hexadecimal digits; `-` for none. */
  readonly xattrs: string;
  /** With %xx for what is not printable ASCII. */
  readonly name: string;
  /** Of a file. */
  readonly sizeBytes: number;
  /** A hash of what a file holds, 32 hexadecimal digits; a link's target, a device's numbers, or nothing. */
  readonly content: string;
  /** Names of one file in a layer have the same, from 1; 0 where there is one name. */
  readonly group: number;
}

/** What is told of a layer's objects, in the order of its manifest. */
export interface ManifestSink {
  enter(directory: ManifestEntry): void;
  leave(): void;
  put(entry: ManifestEntry): void;
}

const VERSION = 'berth-manifest 1';
/** More than a line with the longest name and target has. */
const LINE_MAX = 64 * 1024;

/** Reads the manifest of a layer as it comes; its text is described in proto/berth/v1/explore.proto. */
export class ManifestReader {
  private begun = '';
  private state: 'new' | 'objects' | 'ended' = 'new';
  private depth = 0;
  private objects = 0;

  /** @param layer names the layer in errors */
  constructor(
    private readonly layer: string,
    private readonly sink: ManifestSink,
  ) {}

  take(piece: Buffer): void {
    const lines = (this.begun + piece.toString('latin1')).split('\n');
    this.begun = lines.pop() ?? '';
    if (this.begun.length > LINE_MAX) throw this.damaged();
    for (const line of lines) this.line(line);
  }

  /** That was all of it. */
  end(): void {
    if (this.state !== 'ended' || this.begun !== '') throw this.damaged();
  }

  private line(line: string): void {
    if (this.state === 'new') {
      if (line !== VERSION) throw this.damaged();
      this.state = 'objects';
    } else if (this.state === 'ended') throw this.damaged();
    else if (line === 'u') this.leave();
    else if (line.startsWith('end ')) this.last(line.split(' '));
    else this.object(line.split(' '));
  }

  private object(words: readonly string[]): void {
    this.objects++;
    const entry = toEntry(words);
    if (!entry || (this.depth === 0) !== (entry.name === '.')) throw this.damaged();
    if (entry.type !== 'd') return this.sink.put(entry);
    this.depth++;
    this.sink.enter(entry);
  }

  private leave(): void {
    if (this.depth-- === 0) throw this.damaged();
    this.sink.leave();
  }

  private last([, objects]: readonly string[]): void {
    if (this.depth !== 0 || Number(objects) !== this.objects) throw this.damaged();
    this.state = 'ended';
  }

  private damaged(): BerthError {
    return new BerthError(
      'data_loss',
      `the list of the files of layer ${this.layer} is cut off or not one of berth's`,
      {
        hint: 'repair it with: berth check --repair',
      },
    );
  }
}

function toEntry(words: readonly string[]): ManifestEntry | undefined {
  const [type = '', mode = '', uid = '', gid = '', , xattrs = '', name = '', first = '', second = '', , group = '-'] =
    words;
  if (!isType(type) || name === '') return undefined;
  const isFile = type === 'f';
  return {
    type,
    mode: parseInt(mode, 8),
    uid: Number(uid),
    gid: Number(gid),
    xattrs,
    name,
    sizeBytes: isFile ? Number(first) : 0,
    content: isFile ? second : first,
    group: isFile && group !== '-' ? Number(group) : 0,
  };
}

function isType(letter: string): letter is ManifestEntry['type'] {
  return letter.length === 1 && 'dflcbp'.includes(letter);
}
