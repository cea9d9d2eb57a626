import { printable } from './printable';

const gap = 3;
const minimumWidth = 10; // the gap included

/**
 * Left-aligned columns, as wide as their longest cell and a gap of three, the last without padding. Scripts cut these
 * tables by column, so the widths are those that docker's tables have.
 */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows.map(row => row.map(printable))];
  const widths = header.map((_, column) => widthOf(lines.map(line => line[column] ?? '')));
  return lines.map(line => `${layOut(line, widths)}\n`).join('');
}

function widthOf(cells: readonly string[]): number {
  return Math.max(minimumWidth, ...cells.map(cell => length(cell) + gap));
}

function layOut(line: readonly string[], widths: readonly number[]): string {
  const cells = line.map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - length(cell)));
  return [...cells.slice(0, -1), line.at(-1) ?? ''].join('');
}

/** In code points: near enough to columns for names, which are ASCII. */
function length(text: string): number {
  return [...text].length;
}
