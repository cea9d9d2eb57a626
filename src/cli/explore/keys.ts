/** What keys send, by name; all else is the character itself. */
const NAMES: Readonly<Record<string, string>> = {
  '\x03': 'ctrl-c',
  '\x1a': 'ctrl-z',
  '\t': 'tab',
  '\r': 'enter',
  '\n': 'enter',
  '\x7f': 'backspace',
  '\b': 'backspace',
  '\x1b': 'escape',
  ' ': 'space',
  '\x1b[A': 'up',
  '\x1b[B': 'down',
  '\x1b[C': 'right',
  '\x1b[D': 'left',
  '\x1b[H': 'home',
  '\x1b[F': 'end',
  '\x1b[1~': 'home',
  '\x1b[4~': 'end',
  '\x1b[5~': 'page-up',
  '\x1b[6~': 'page-down',
  '\x1b[Z': 'back-tab',
};

/** The keys in what a terminal sent, whose escape sequences come whole. What is no key of ours has a name that nobody asks for. */
export function keysIn(text: string): string[] {
  const found = text.match(/\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|[^]/gu) ?? [];
  // Some terminals send O for [ while an application has the keys.
  return found.map(key => NAMES[key.replace(/^\x1bO/, '\x1b[')] ?? key);
}
