import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Glob, type GlobPart } from '../../../src/base/glob';

const letters = ['a', 'b', '/'] as const;

/** Parts and the regular expression that says the same. */
const pieces: fc.Arbitrary<{ readonly parts: readonly GlobPart[]; readonly source: string }> = fc.oneof(
  fc.constantFrom(...letters).map(letter => ({ parts: [one(letter)], source: letter })),
  fc.constant({ parts: [any('one')], source: '.' }),
  fc.constant({ parts: [any('many')], source: '.*' }),
  fc.constant({ parts: [{ kind: 'many' as const, takes: (character: string) => character !== '/' }], source: '[^/]*' }),
  fc.constant({ parts: [{ kind: 'optional' as const, parts: 2 }, any('many'), one('/')], source: '(?:.*/)?' }),
);
const patterns = fc.array(pieces, { maxLength: 6 }).map(list => ({
  glob: new Glob(list.flatMap(({ parts }) => parts)),
  source: list.map(({ source }) => source).join(''),
}));
const texts = fc.array(fc.constantFrom(...letters), { maxLength: 10 });

describe('a glob', () => {
  it('matches what a regular expression matches', () => {
    fc.assert(
      fc.property(patterns, texts, ({ glob, source }, text) => {
        assert.equal(glob.matches(text.join('')), new RegExp(`^${source}$`).test(text.join('')));
      }),
    );
  });

  it('matches a path when it matches a directory above it, where that will do', () => {
    fc.assert(
      fc.property(patterns, texts, ({ glob, source }, text) => {
        const regexp = new RegExp(`^${source}$`);
        const above = text.map((_, i) => text.slice(0, i).join('')).filter((_, i) => text[i] === '/');
        assert.equal(
          glob.matches(text.join(''), true),
          [...above, text.join('')].some(each => regexp.test(each)),
        );
      }),
    );
  });

  it('knows the shortest and the longest beginning, and the first and longest match within', () => {
    fc.assert(
      fc.property(patterns, texts, ({ glob, source }, text) => {
        const regexp = new RegExp(`^${source}$`);
        const isMatch = (from: number, to: number) => regexp.test(text.slice(from, to).join(''));
        const ends = [...text.keys(), text.length];
        const found = ends.filter(to => isMatch(0, to));
        const expected = found.length === 0 ? undefined : { shortest: found[0], longest: found.at(-1) };
        assert.deepEqual(glob.beginnings(text), expected);
        const from = ends.find(begin => ends.some(to => to >= begin && isMatch(begin, to)));
        const to = from === undefined ? undefined : ends.findLast(end => end >= from && isMatch(from, end));
        assert.deepEqual(glob.find(text, 0), from === undefined ? undefined : { from, to });
      }),
    );
  });

  it('takes a text and a pattern that a regular expression would not come to an end with', () => {
    const glob = new Glob(Array.from({ length: 30 }, () => [any('many'), one('a')]).flat());
    assert.ok(!glob.matches('a'.repeat(5000) + 'b'));
    assert.equal(glob.find([...'b'.repeat(5000)], 0), undefined);
  });
});

function one(letter: string): GlobPart {
  return { kind: 'one', takes: character => character === letter };
}

function any(kind: 'one' | 'many'): GlobPart {
  return { kind, takes: () => true };
}
