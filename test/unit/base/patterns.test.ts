import assert from 'node:assert/strict';
import { ignoreLines, IgnorePatterns, pathPattern } from '../../../src/base/patterns';

describe('patterns of paths', () => {
  for (const [pattern, matching, others] of [
    ['a', ['a'], ['b', 'aa', 'a/b']],
    ['*', ['a', 'abc', ''], ['a/b']],
    ['*.txt', ['a.txt', '.txt'], ['a.txt/b', 'a/b.txt', 'atxt']],
    ['a/*/c', ['a/b/c'], ['a/c', 'a/b/b/c']],
    ['?.c', ['a.c'], ['.c', 'ab.c', '/.c']],
    ['[a-c]x', ['ax', 'cx'], ['dx', '-x']],
    ['[^a]x', ['bx'], ['ax']],
    ['[\\]\\-x]', [']', '-', 'x'], ['\\', 'a']],
    ['\\*', ['*'], ['a']],
    ['a+(b)', ['a+(b)'], ['aab']],
    ['**', ['a'], ['a/b']],
  ] as const)
    it(`${pattern} is ${matching.join(', ')} and not ${others.join(', ')}`, () => {
      const glob = pathPattern(pattern);
      for (const path of matching) assert.ok(glob?.matches(path), path);
      for (const path of others) assert.ok(!glob?.matches(path), path);
    });

  for (const pattern of ['[', '[a', 'a\\', '[]', '[b-a]', '[a\\'])
    it(`${pattern} is malformed`, () => assert.equal(pathPattern(pattern), undefined));
});

describe('.dockerignore', () => {
  for (const [lines, ignored, kept] of [
    [['a'], ['a', 'a/b', 'a/b/c'], ['b', 'b/a', 'aa']],
    [['/a/'], ['a', 'a/b'], ['b/a']],
    [['./a/../b'], ['b'], ['a']],
    [['*/temp*'], ['x/temp', 'x/temporary/y'], ['temp', 'x/y/temp']],
    [['*/*/temp*'], ['x/y/temp'], ['x/temp']],
    [['temp?'], ['temp1'], ['temp', 'temp12']],
    [['**/*.go'], ['a.go', 'x/a.go', 'x/y/a.go'], ['a.gox']],
    [['**'], ['a', 'a/b'], []],
    [['a/**'], ['a/b', 'a/b/c'], ['a', 'b']],
    [['a/**/b'], ['a/b', 'a/x/b', 'a/x/y/b'], ['a/xb']],
    [['*.md', '!README.md'], ['a.md'], ['README.md', 'x/a.md']],
    [['*.md', '!README*.md', 'README-secret.md'], ['a.md', 'README-secret.md'], ['README.md']],
    [['*.md', 'README-secret.md', '!README*.md'], ['a.md'], ['README-secret.md']],
    [
      ['a', '!a/b'],
      ['a', 'a/c'],
      ['a/b', 'a/b/d'],
    ],
    [
      ['*', '!src/**'],
      ['a', 'src'],
      ['src/a', 'src/a/b'],
    ],
  ] as const)
    it(`${lines.join(' ')} leaves ${ignored.join(', ')} out and keeps ${kept.join(', ') || 'nothing'}`, () => {
      const patterns = new IgnorePatterns(lines);
      for (const path of ignored) assert.ok(patterns.matches(path), `${path} is ignored`);
      for (const path of kept) assert.ok(!patterns.matches(path), `${path} is kept`);
    });

  it('has comments at the beginning of lines, and blanks around patterns', () => {
    assert.deepEqual(ignoreLines('\ufeff# a comment\r\n  a  \n\n #b\n!c'), ['a', '#b', '!c']);
  });

  it('knows where an exception may be', () => {
    const patterns = new IgnorePatterns(['*', '!a/b/c', '!d*/x']);
    assert.ok(patterns.mayExceptBelow('a'));
    assert.ok(patterns.mayExceptBelow('a/b'));
    assert.ok(patterns.mayExceptBelow('dir'));
    assert.ok(!patterns.mayExceptBelow('e'));
  });

  it('refuses a malformed pattern by name', () => {
    assert.throws(() => new IgnorePatterns(['a', '[b']), new RangeError('[b'));
  });
});
