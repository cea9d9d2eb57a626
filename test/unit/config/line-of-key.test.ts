import assert from 'node:assert/strict';
import { lineOfKey } from '../../../src/config/line-of-key';

describe('lineOfKey', () => {
  const text = [
    'a = 1',
    'b = """',
    'c = 2',
    '"""',
    '',
    '[t]',
    'l = [',
    '  1,',
    '  { x = 2 },',
    ']',
    'd.e.f = 3',
    '[[u]]',
    '[[u]]',
    'z = 1',
  ];
  const cases: [line: number, path: (string | number)[]][] = [
    [1, ['a']],
    [2, ['b']],
    [6, ['t']],
    [7, ['t', 'l']],
    [7, ['t', 'l', 1, 'x']],
    [11, ['t', 'd', 'e', 'f']],
    [12, ['u', 0]],
    [13, ['u', 1]],
    [14, ['u', 1, 'z']],
  ];
  for (const [line, path] of cases) {
    it(`finds ${path.join('.')}`, () => {
      assert.equal(lineOfKey(text.join('\n'), path), line);
      assert.equal(lineOfKey(text.join('\r\n'), path), line);
    });
  }
});
