/** At most `columns` of a text, which is safe to show, and blanks for what it is shorter; an ellipsis where it was cut. */
export function fit(text: string, columns: number): string {
  if (columns <= 0) return '';
  let used = 0;
  let kept = '';
  for (const character of text) {
    const width = widthOf(character);
    if (used + width > columns) return cut(kept, columns);
    used += width;
    kept += character;
  }
  return kept + ' '.repeat(columns - used);
}

/** Makes room for an ellipsis behind a text that fills the columns, or nearly. */
function cut(text: string, columns: number): string {
  const characters = [...text];
  let used = characters.reduce((sum, character) => sum + widthOf(character), 0);
  while (used > columns - 1) used -= widthOf(characters.pop() ?? '');
  return `${characters.join('')}…${' '.repeat(columns - 1 - used)}`;
}

/** A text in lines of at most `columns`, two at least, cut behind a blank where there is one in the last half. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line: string[] = [];
  let used = 0;
  for (const character of text) {
    const width = widthOf(character);
    if (used + width > columns) {
      const blank = line.lastIndexOf(' ') + 1;
      const rest = blank > columns / 2 ? line.splice(blank) : [];
      lines.push(line.join('').trimEnd());
      line = rest;
      used = rest.reduce((sum, one) => sum + widthOf(one), 0);
    }
    line.push(character);
    used += width;
  }
  return line.length === 0 ? lines : [...lines, line.join('')];
}

/** How many columns of a terminal a character takes: marks none, the scripts of East Asia and pictures two. */
function widthOf(character: string): number {
  if (character < '\u0300') return 1;
  if (/^[\p{Mn}\p{Me}\p{Cf}]$/u.test(character)) return 0;
  return WIDE.test(character) ? 2 : 1;
}

const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]$/u;
