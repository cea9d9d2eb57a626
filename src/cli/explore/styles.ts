/** How parts of a line are told apart. Each is also told by a letter or its place: colours are not for everybody. */
export interface Styles {
  title(text: string): string;
  chosen(text: string): string;
  dim(text: string): string;
  added(text: string): string;
  changed(text: string): string;
  removed(text: string): string;
}

/** Without colours, what is chosen is still shown as such. */
export function styles(colours: boolean): Styles {
  const sgr = (code: string) => (text: string) => `\x1b[${code}m${text}\x1b[0m`;
  const plain = (text: string) => text;
  return {
    title: sgr('1;7'),
    chosen: sgr('7'),
    dim: sgr('2'),
    added: colours ? sgr('32') : plain,
    changed: colours ? sgr('33') : plain,
    removed: colours ? sgr('31') : plain,
  };
}
