import assert from 'node:assert/strict';
import { fit, wrap } from '../../../../src/cli/explore/columns-of-text';
import { Explorer } from '../../../../src/cli/explore/explorer';
import { ImageTree } from '../../../../src/cli/explore/image-tree';
import { keysIn } from '../../../../src/cli/explore/keys';
import { directory, file, layerOf, link, removal } from './layers';

const BASE = directory({
  bin: directory({ sh: file(900), ls: link('sh') }),
  etc: directory({ passwd: file(30), 'a%1b[2J': file(20) }),
});
const TOP = directory({ etc: directory({ passwd: file(40, { mode: 0o4711 }) }), bin: directory({ sh: removal }) });

describe('the interactive view of an image', () => {
  let explorer: Explorer;
  beforeEach(() => {
    const tree = new ImageTree();
    layerOf(tree, BASE);
    layerOf(tree, TOP);
    const layers = ['ADD rootfs /', 'RUN \u001b]0;title\u0007 rm'].map((line, i) => ({ diffId: `sha256:${i}`, line }));
    const text = (words: string) => words;
    explorer = new Explorer(
      { image: { id: 'sha256:1234', tags: ['app:1'], config: {}, layers }, tree },
      { title: text, chosen: words => words.replace(/^./, '>'), dim: text, added: text, changed: text, removed: text },
    );
  });

  const press = (...names: string[]) => names.map(name => explorer.key(name)).at(-1);
  const screen = (columns = 100, rows = 24) => explorer.draw(columns, rows);
  /** The right pane, without what is beside it. */
  const files = () =>
    screen()
      .filter(line => line.includes('│'))
      .map(line => line.slice(line.indexOf('│') + 1).trimEnd())
      .filter(line => line !== '');

  it('shows layers, and of the chosen one its line, sums and files', () => {
    const text = screen().join('\n');
    assert.match(text, /Layers of app:1/);
    assert.match(text, /> {2}1 {4}950B ADD rootfs \//);
    assert.match(text, /7 added, 0 changed, 0 removed/);
    assert.match(text, /950B, of which 930B are wasted/);
    assert.match(text, /efficiency 6\.0 %/);
    assert.deepEqual(files(), [
      ' Files of layer 1 [acr-] by size',
      'A drwxr-xr-x 0:0          900B ▸ bin/',
      'A drwxr-xr-x 0:0           50B ▸ etc/',
    ]);
  });

  it('goes to another layer, and keeps what is unfolded', () => {
    press('tab', 'down', 'space', 'tab', 'j');
    assert.deepEqual(files(), [
      ' Files of layer 2 [acr-] by size',
      '  drwxr-xr-x 0:0           40B ▾ etc/',
      'C -rws--x--x 0:0           40B     passwd',
      '  drwxr-xr-x 0:0            0B ▸ bin/',
    ]);
    assert.match(screen().join('\n'), /RUN \\u001b\]0;title\\u0007 rm/);
  });

  it('shows what is asked for: kinds, all files, an order, a name', () => {
    press('down', 'enter', 'e', 's');
    const names = () =>
      files().map(line =>
        line
          .replace(/^(.).*(?<=B )/, '$1')
          .replace('>', ' ')
          .trim(),
      );
    assert.deepEqual(
      names().slice(1),
      ['▾ bin/', 'D    sh', '▾ etc/', 'C    passwd'].map(line => line),
    );
    press('r');
    assert.deepEqual(names().slice(1), ['▾ etc/', 'C    passwd']);
    press('r', 'u');
    assert.equal(names().filter(line => line.endsWith('ls → sh')).length, 1);
    assert.equal(names().filter(line => line.endsWith('a\\u001b[2J')).length, 1);
    press('e', 'u', '/', 's', 'h', 'x', 'backspace', 'enter');
    assert.deepEqual(names().slice(1), ['▾ bin/', 'D    sh']);
    press('escape');
    assert.deepEqual(names().slice(1), ['▸ bin/', '▸ etc/']);
  });

  it('types a q into a name, and ends with one elsewhere', () => {
    assert.equal(press('/', 'q'), true);
    assert.match(files()[0] ?? '', /name: q/);
    assert.equal(press('escape', 'q'), false);
    assert.equal(press('ctrl-c'), false);
  });

  it('shows what is wasted, and goes to where', () => {
    press('w');
    assert.deepEqual(files(), [
      ' Wasted: what later layers replace or remove',
      '>   900B /bin/sh (1 removed by 2)',
      '     30B /etc/passwd (1 changed by 2)',
    ]);
    press('enter');
    assert.deepEqual(files().slice(0, 4), [
      ' Files of layer 2 [acr-] by size',
      '  drwxr-xr-x 0:0           40B ▸ etc/',
      '  drwxr-xr-x 0:0            0B ▾ bin/',
      '> -rw-r--r-- 0:0          900B     sh',
    ]);
  });

  it('fills any screen, and no more', () => {
    press('e');
    for (const [columns, rows] of [
      [100, 24],
      [71, 5],
      [20, 3],
      [1, 1],
      [200, 60],
    ] as const) {
      const lines = screen(columns, rows);
      assert.equal(lines.length, rows);
      for (const line of lines) assert.equal([...line].length, columns, JSON.stringify(line));
      press('down');
    }
  });

  it('has nothing to show of an image without layers', () => {
    const empty = new Explorer({ image: { id: 'sha256:1', tags: [], config: {}, layers: [] }, tree: new ImageTree() });
    for (const key of ['down', 'tab', 'space', 'e', 'a', '/', 'x', 'enter', 'w', 'enter'])
      assert.equal(empty.key(key), true);
    assert.equal(empty.draw(80, 10).length, 10);
  });
});

describe('what is on a terminal', () => {
  it('fits into its columns, those that take two among them', () => {
    assert.equal(fit('abc', 5), 'abc  ');
    assert.equal(fit('abcdef', 5), 'abcd…');
    assert.equal(fit('漢字漢', 5), '漢字…');
    assert.equal(fit('漢字漢', 6), '漢字漢');
    assert.equal(fit('a漢字', 4), 'a漢…');
    assert.equal(fit('e\u0301e', 3), 'e\u0301e ');
    assert.deepEqual(wrap('RUN apt-get install one two', 12), ['RUN apt-get', 'install one', 'two']);
    assert.deepEqual(
      wrap('x'.repeat(25), 10).map(({ length }) => length),
      [10, 10, 5],
    );
  });

  it('sends keys that have names', () => {
    assert.deepEqual(keysIn('\x1b[Aj\x1bOB \r\x1b[6~ü\x03\x1b'), [
      ...['up', 'j', 'down', 'space', 'enter', 'page-down', 'ü', 'ctrl-c', 'escape'],
    ]);
    assert.deepEqual(keysIn('\x1b[1;5Cq'), ['\x1b[1;5C', 'q']);
  });
});
