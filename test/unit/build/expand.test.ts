import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expand, expandText, expandWords, ExpansionError } from '../../../src/build/dockerfile/expand';

const values: Readonly<Record<string, string>> = {
  x: 'value',
  empty: '',
  path: '/usr/local/lib/app.tar.gz',
  words: 'one  two',
  quoted: 'it"s',
};
const lookup = (name: string) => values[name];

describe('variables of a Dockerfile', () => {
  for (const [text, result] of [
    ['$x', 'value'],
    ['${x}', 'value'],
    ['a${x}b', 'avalueb'],
    ['$x.txt', 'value.txt'],
    ['$none', ''],
    ['${none}', ''],
    ['\\$x', '$x'],
    ['\\${x}', '${x}'],
    ['\\\\$x', '\\value'],
    ["'$x'", '$x'],
    ['"$x"', 'value'],
    ['"a\\"b"', 'a"b'],
    ['"a\\b"', 'a\\b'],
    ['"a\\$x"', 'a$x'],
    ['a\\ b', 'a b'],
    ['a"b c"d', 'ab cd'],
    ['$', '$'],
    ['a$', 'a$'],
    ['$1 $@ $#', '  '],
    ['${x:-other}', 'value'],
    ['${none:-other}', 'other'],
    ['${empty:-other}', 'other'],
    ['${empty-other}', ''],
    ['${none-other}', 'other'],
    ['${x:+other}', 'other'],
    ['${empty:+other}', ''],
    ['${empty+other}', 'other'],
    ['${none+other}', ''],
    ['${x:?why}', 'value'],
    ['${none:-${x}}', 'value'],
    ['${none:-$x-$x}', 'value-value'],
    ['${none:-"a b"}', 'a b'],
    ['${none:-a\\}b}', 'a}b'],
    ['${path#*/}', 'usr/local/lib/app.tar.gz'],
    ['${path##*/}', 'app.tar.gz'],
    ['${path%.*}', '/usr/local/lib/app.tar'],
    ['${path%%.*}', '/usr/local/lib/app'],
    ['${path#/none}', '/usr/local/lib/app.tar.gz'],
    ['${path%.g?}', '/usr/local/lib/app.tar'],
    ['${path/l/L}', '/usr/Local/lib/app.tar.gz'],
    ['${path//l/L}', '/usr/LocaL/Lib/app.tar.gz'],
    ['${path//\\//_}', '_usr_local_lib_app.tar.gz'],
    ['${path/app*/$x}', '/usr/local/lib/value'],
    ['${path//l}', '/usr/oca/ib/app.tar.gz'],
    ['${path/*\\//}', 'app.tar.gz'],
    ['${path//[/x}', '/usr/local/lib/app.tar.gz'],
    ['${path//*/x}', 'x'],
    ['${x%%*}', ''],
    ['${x#?}', 'alue'],
    ['$quoted', 'it"s'],
  ] as const)
    it(`${text} is ${JSON.stringify(result)}`, () => assert.equal(expand(text, lookup), result));

  for (const text of ['${none:?it is needed}', '${none?}', '${x', '"a', "'a", '${}', '${x!y}', '${x:y}'])
    it(`${text} is refused`, () => assert.throws(() => expand(text, lookup), ExpansionError));

  it('says what a variable is needed for', () =>
    assert.throws(() => expand('${none:?it is needed}', lookup), /none: it is needed/));

  it('refuses what grows without bound, and patterns cost no more than their length', () => {
    const long = (name: string) => (name === 'a' ? 'a'.repeat(100_000) : undefined);
    for (const text of ['$a'.repeat(12), '${x:-' + '$a'.repeat(12) + '}', '"' + '$a'.repeat(12) + '"', '${a//a/$a}'])
      assert.throws(() => expand(text, long), /longer than/);
    assert.throws(() => expand('${x:-'.repeat(10_000), long), /within one another/);
    for (const operator of ['##', '#', '%%', '%', '/', '//'])
      assert.equal(expand(`\${a${operator}${'*a'.repeat(10)}b}`, long), 'a'.repeat(100_000));
    assert.equal(expandText('x'.repeat(2_000_000), long).length, 2_000_000);
  });

  it('has another escape character where the Dockerfile says so', () => {
    assert.equal(expand('`$x c:\\dir', lookup, '`'), '$x c:\\dir');
  });

  it('splits at blanks that are not quoted, in variables too', () => {
    assert.deepEqual(expandWords('80 "a b" $words "$words" x\\ y', lookup), [
      '80',
      'a b',
      'one',
      'two',
      'one  two',
      'x y',
    ]);
  });

  it('leaves the quotes of a heredoc alone', () => {
    assert.equal(expandText('say "$x" \'$x\' \\$x \\n', lookup), 'say "value" \'value\' $x \\n');
  });

  it('leaves a text without anything special as it is', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-zA-Z0-9 .,:/_=+-]*$/), text => assert.equal(expand(text, lookup), text)),
    );
  });

  it('ends, and throws nothing but its own error, whatever the text is', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[$x{}:+#%/\\"'*? -]*$/), text => {
        try {
          expand(text, lookup);
        } catch (error) {
          assert.ok(error instanceof ExpansionError, String(error));
        }
      }),
    );
  });
});
