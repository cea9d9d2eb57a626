// Makes src/oci/seccomp/syscalls.ts of the table that libseccomp keeps of all kernels' headers:
//   node scripts/syscalls.mjs <libseccomp>/src/syscalls.csv
// The table's own description of itself, kernel version and date, goes into the file.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ARCHES = { x86_64: 'x86_64', x32: 'x32', x86: 'x86', aarch64: 'aarch64', arm: 'arm' };
const WIDTH = 116;

const [header, ...rows] = readFileSync(process.argv[2], 'utf8')
  .trim()
  .split('\n')
  .map(line => line.split(','));
const version = /\((.*)\)/.exec(header[0])?.[1] ?? 'unknown version';

/** `0 read write … 424 pidfd_send_signal …`: a number says what the next name's is, each name adds one. */
function tableOf(column) {
  const at = header.indexOf(column);
  const entries = rows
    .filter(row => /^\d+$/.test(row[at]))
    .map(row => [Number(row[at]), row[0]])
    .sort(([a], [b]) => a - b);
  const tokens = [];
  let next = -1;
  for (const [number, name] of entries) {
    if (number !== next) tokens.push(String(number));
    tokens.push(name);
    next = number + 1;
  }
  return tokens.join(' ');
}

function wrapped(text) {
  const lines = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = '';
    }
    line += line === '' ? word : ` ${word}`;
  }
  return [...lines, line].map(text => `    ${text}`).join('\n');
}

const tables = Object.entries(ARCHES).map(([name, column]) => `  ${name}: \`\n${wrapped(tableOf(column))}\`,\n`);
const source = `/**
 * Numbers of system calls by architecture, up to Linux ${version}. Written by scripts/syscalls.mjs: facts of the
 * kernel's headers, as libseccomp collects them. A number says what the next name's number is; each name adds one.
 * Numbers of x32 are without the bit that marks them.
 */
const NUMBERS = {
${tables.join('')}} as const;

export type SyscallTable = ReadonlyMap<string, number>;
export type SyscallArch = keyof typeof NUMBERS;

const tables = new Map<SyscallArch, SyscallTable>();

/** Name to number; parsed at its first use. */
export function syscallsOf(arch: SyscallArch): SyscallTable {
  const known = tables.get(arch);
  if (known) return known;
  const table = new Map<string, number>();
  let next = 0;
  for (const token of NUMBERS[arch].trim().split(/\\s+/)) {
    if (/^\\d+$/.test(token)) next = Number(token);
    else table.set(token, next++);
  }
  tables.set(arch, table);
  return table;
}
`;
writeFileSync(join(dirname(fileURLToPath(import.meta.url)), '../src/oci/seccomp/syscalls.ts'), source);
