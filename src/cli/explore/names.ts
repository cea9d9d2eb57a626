import { printable } from '../format/printable';

/** A name of a manifest as a text to show: control characters are escaped. */
export function shownName(name: string): string {
  return name.includes('%') ? printable(nameText(name)) : name;
}

/**
 * A name of a manifest, in which %xx stands for a byte, as it is: UTF-8. Bytes that are no UTF-8 become `\xff`. It is as the
 * image has it, and no terminal's to see: see `shownName`.
 */
export function nameText(name: string): string {
  if (!name.includes('%')) return name;
  const bytes = name.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  try {
    return utf8.decode(Buffer.from(bytes, 'latin1'));
  } catch {
    return bytes.replace(/[\u0080-\u00ff]/g, byte => `\\x${byte.charCodeAt(0).toString(16)}`);
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What somebody has typed, as a manifest writes it. */
export function manifestName(text: string): string {
  const bytes = [...Buffer.from(text, 'utf8')];
  return bytes
    .map(byte => (isPlain(byte) ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, '0')}`))
    .join('');
}

/** Printable ASCII, but no blank and no `%`. */
function isPlain(byte: number): boolean {
  return byte > 0x20 && byte < 0x7f && byte !== 0x25;
}
