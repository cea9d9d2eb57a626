import { print } from '../output';

const PIECE_LENGTH = 64 * 1024;

/** Prints many short texts in few writes, as fast as they are read. */
export async function printAll(texts: Iterable<string>): Promise<void> {
  let piece = '';
  for (const text of texts) {
    piece += text;
    if (piece.length < PIECE_LENGTH) continue;
    await print(piece);
    piece = '';
  }
  if (piece !== '') await print(piece);
}
