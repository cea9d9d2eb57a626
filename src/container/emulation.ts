import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError, isAbsent } from '../base/errors';
import { describePlatform, fits, type Platform } from '../image/platform';

/** Where the kernel says which programs it hands to which interpreter (binfmt_misc). */
const handlersDir = '/proc/sys/fs/binfmt_misc';

interface Handler {
  readonly name: string;
  readonly isEnabled: boolean;
  readonly interpreter: string;
  /** F: the interpreter was opened when it was registered, so that no container needs it in its files. */
  readonly isFixed: boolean;
  readonly offset: number;
  readonly magic: Buffer;
  readonly mask: Buffer;
}

/** How an ELF file begins that is for an architecture, and what QEMU calls its emulator. */
interface Program {
  readonly bits: 32 | 64;
  readonly machine: number;
  readonly bigEndian?: true;
  readonly emulator: string;
}

/** Machines of elf.h, under Go's names. */
const programs: Readonly<Record<string, Program>> = {
  amd64: { bits: 64, machine: 62, emulator: 'qemu-x86_64' },
  '386': { bits: 32, machine: 3, emulator: 'qemu-i386' },
  arm64: { bits: 64, machine: 183, emulator: 'qemu-aarch64' },
  arm: { bits: 32, machine: 40, emulator: 'qemu-arm' },
  riscv64: { bits: 64, machine: 243, emulator: 'qemu-riscv64' },
  loong64: { bits: 64, machine: 258, emulator: 'qemu-loongarch64' },
  ppc64le: { bits: 64, machine: 21, emulator: 'qemu-ppc64le' },
  ppc64: { bits: 64, machine: 21, bigEndian: true, emulator: 'qemu-ppc64' },
  s390x: { bits: 64, machine: 22, bigEndian: true, emulator: 'qemu-s390x' },
  mips64le: { bits: 64, machine: 8, emulator: 'qemu-mips64el' },
  mipsle: { bits: 32, machine: 8, emulator: 'qemu-mipsel' },
  mips64: { bits: 64, machine: 8, bigEndian: true, emulator: 'qemu-mips64' },
  mips: { bits: 32, machine: 8, bigEndian: true, emulator: 'qemu-mips' },
};

/**
 * Makes sure that this node can run programs of a platform: by itself, or by an emulator that is registered with the
 * kernel. Returns what should be said to people although it may work; throws `failed_precondition` where it cannot.
 * `what` is what shall run.
 */
export async function assertRuns(
  platform: Platform,
  node: Platform,
  what: string,
  dir = handlersDir,
): Promise<string | undefined> {
  if (fits(platform, node)) return undefined;
  // All amd64 processors run it, and kernels do by default.
  if (node.architecture === 'amd64' && platform.architecture === '386' && platform.os === node.os) return undefined;
  const names = `${what} is for ${describePlatform(platform)}, and this node is ${describePlatform(node)}`;
  const program = programs[platform.architecture];
  if (platform.os !== node.os || !program)
    throw new BerthError('failed_precondition', `${names}, which cannot run or emulate it`, {
      hint: 'use an image for the node',
    });
  // A higher variant of the node's own: it depends on the processor, and no emulator is asked.
  if (platform.architecture === node.architecture) return `${names}: its processor may lack what the programs use`;
  const handlers = (await readHandlers(dir)).filter(handler => takes(handler, program));
  const best = handlers.find(({ isEnabled, isFixed }) => isEnabled && isFixed) ?? handlers.find(one => one.isEnabled);
  if (best?.isFixed) return undefined;
  if (best)
    return `${names}: its emulator ${best.interpreter} is registered without the flag F, so it has to be in the image`;
  // Some processors still run it, and nobody can say before it is tried.
  if (node.architecture === 'arm64' && platform.architecture === 'arm')
    return `${names}: not all processors of its kind run 32-bit programs, and no emulator for them is registered`;
  const [off] = handlers;
  if (off)
    throw new BerthError('failed_precondition', `${names}, whose emulator for it is turned off`, {
      hint: `turn it on: echo 1 > ${join(dir, off.name)}, and the same with ${join(dir, 'status')} where that says disabled`,
    });
  throw new BerthError('failed_precondition', `${names}, which has no emulator for it`, {
    hint: `register ${program.emulator} with the flag F in ${dir}, as Debian's packages qemu-user-static and binfmt-support do`,
  });
}

/** None where binfmt_misc is not mounted. */
async function readHandlers(dir: string): Promise<Handler[]> {
  const names = await readdir(dir).catch(noneIfAbsent);
  const isOn = names.includes('status') && (await readFile(join(dir, 'status'), 'utf8')).startsWith('enabled');
  const texts = await Promise.all(
    names
      .filter(name => name !== 'status' && name !== 'register')
      .map(async name => ({ name, text: await readFile(join(dir, name), 'utf8').catch(noneIfAbsent) })),
  );
  return texts.flatMap(({ name, text }) => {
    const handler = typeof text === 'string' ? parseHandler(name, text) : undefined;
    return handler ? [{ ...handler, isEnabled: handler.isEnabled && isOn }] : [];
  });
}

/** Handlers come and go. */
function noneIfAbsent(error: unknown): string[] {
  if (isAbsent(error)) return [];
  throw error;
}

/** As the kernel shows it (fs/binfmt_misc.c, entry_status); undefined for one that goes by the end of a file's name. */
function parseHandler(name: string, text: string): Handler | undefined {
  const lines = text.split('\n');
  const after = (word: string) => lines.find(line => line.startsWith(`${word} `))?.slice(word.length + 1);
  const magic = Buffer.from(after('magic') ?? '', 'hex');
  if (magic.length === 0) return undefined;
  const mask = Buffer.from(after('mask') ?? '', 'hex');
  return {
    name,
    isEnabled: lines[0] === 'enabled',
    interpreter: after('interpreter') ?? '',
    isFixed: (after('flags:') ?? '').includes('F'),
    offset: Number(after('offset') ?? 0),
    magic,
    mask: mask.length === magic.length ? mask : Buffer.alloc(magic.length, 0xff),
  };
}

function takes({ offset, magic, mask }: Handler, program: Program): boolean {
  return [ET_EXEC, ET_DYN].some(type => {
    const head = elfHead(program, type);
    return magic.every((byte, i) => (((head[offset + i] ?? 0) ^ byte) & (mask[i] ?? 0)) === 0);
  });
}

const ET_EXEC = 2;
const ET_DYN = 3;

/** The first bytes of a program, elf(5); the kernel compares 256 at the most. */
function elfHead({ bits, machine, bigEndian }: Program, type: number): Buffer {
  const head = Buffer.alloc(256);
  head.set([0x7f, 0x45, 0x4c, 0x46, bits / 32, bigEndian ? 2 : 1, 1]);
  const write = (value: number, at: number) =>
    bigEndian ? head.writeUInt16BE(value, at) : head.writeUInt16LE(value, at);
  write(type, 16);
  write(machine, 18);
  return head;
}
