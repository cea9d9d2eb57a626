import assert from 'node:assert/strict';
import { DockerfileError } from '../../../src/build/dockerfile/error';
import { parseLines } from '../../../src/build/dockerfile/lines';
import { parseDockerfile, type Command } from '../../../src/build/dockerfile/parse';

/** The commands of the last stage. */
function commands(text: string): readonly Command[] {
  return parseDockerfile(`FROM scratch\n${text}`).stages.at(-1)?.commands ?? [];
}

const kindsAndLines = (text: string) =>
  parseLines(text).instructions.map(({ word, rest, line, endLine }) => [word, rest, line, endLine]);

describe('lines of a Dockerfile', () => {
  it('continue behind an escape, and comments and empty lines among them do not count', () => {
    const text = 'RUN a \\\n  # a comment\n\n  && b\\\n  c   \nCMD x';
    assert.deepEqual(kindsAndLines(text), [
      ['RUN', 'a   && b  c', 1, 5],
      ['CMD', 'x', 6, 6],
    ]);
    assert.match(parseLines(text).warnings.join(), /line 3: an empty line/);
  });

  it('end with an escape that is escaped, and may have blanks behind one that is not', () => {
    assert.deepEqual(kindsAndLines('RUN a \\\\\nCMD b \\  \n c'), [
      ['RUN', 'a \\\\', 1, 1],
      ['CMD', 'b  c', 2, 3],
    ]);
  });

  it('are the same with Windows line ends and a byte order mark', () => {
    assert.deepEqual(kindsAndLines('\ufeffFROM a\r\nRUN b \\\r\n c\r\n'), [
      ['FROM', 'a', 1, 1],
      ['RUN', 'b  c', 2, 3],
    ]);
  });

  it('begin with directives, until anything else comes', () => {
    const parsed = parseLines(
      '#!/usr/bin/env x\n# syntax=docker/dockerfile:1\n#escape=`\n# check=skip=all\nRUN a `\n b',
    );
    assert.deepEqual(Object.fromEntries(parsed.directives), {
      syntax: 'docker/dockerfile:1',
      escape: '`',
      check: 'skip=all',
    });
    assert.equal(parsed.instructions[0]?.rest, 'a  b');
    assert.equal(parseLines('# a comment\n# escape=`\nRUN a').escape, '\\');
    assert.equal(parseLines('\n# escape=`\nRUN a').escape, '\\');
  });

  it('refuse a directive that comes twice, and an escape that is none', () => {
    assert.throws(() => parseLines('# escape=`\n# escape=`'), /escape comes twice/);
    assert.throws(() => parseLines('# escape=x\nRUN a'), /escape=x/);
  });
});

describe('heredocs', () => {
  const heredocs = (text: string) => parseLines(text).instructions[0]?.heredocs;

  it('are the lines until their name', () => {
    assert.deepEqual(heredocs('RUN <<EOF\na\n# no comment\n\n b\nEOF\nCMD c'), [
      { name: 'EOF', content: 'a\n# no comment\n\n b\n', expand: true, chomp: false },
    ]);
    assert.deepEqual(kindsAndLines('RUN <<EOF\na\nEOF\nCMD c'), [
      ['RUN', '<<EOF', 1, 3],
      ['CMD', 'c', 4, 4],
    ]);
  });

  it('take no variables when quoted, and lose tabs behind a dash', () => {
    assert.deepEqual(heredocs('COPY <<-"END" /x\n\t\ta\n\tEND'), [
      { name: 'END', content: 'a\n', expand: false, chomp: true },
    ]);
  });

  it('may be several, of several lines', () => {
    const found = heredocs('COPY <<a <<b \\\n /dir/\n1\na\n2\nb');
    assert.deepEqual(
      found?.map(({ name, content }) => [name, content]),
      [
        ['a', '1\n'],
        ['b', '2\n'],
      ],
    );
  });

  it('need an end, and only ADD, COPY and RUN have them', () => {
    assert.throws(() => parseLines('RUN <<EOF\na\n'), /heredoc EOF has no end/);
    assert.deepEqual(heredocs('CMD echo <<EOF'), []);
    assert.deepEqual(heredocs('RUN cat <<<EOF'), []);
    assert.deepEqual(heredocs('RUN echo "<<EOF"'), []);
  });
});

describe('instructions', () => {
  it('are any letter case', () => {
    assert.deepEqual(
      commands('run a\nCoPy a b').map(({ kind }) => kind),
      ['RUN', 'COPY'],
    );
  });

  it('have an exec form, which is a JSON list, and a shell form, which is everything else', () => {
    const forms = commands('CMD ["a", "b c"]\nCMD a b\nCMD [a]\nCMD ["a\', 1]').map(
      command => command.kind === 'CMD' && command.form,
    );
    assert.deepEqual(forms, [{ exec: ['a', 'b c'] }, { shell: 'a b' }, { shell: '[a]' }, { shell: '["a\', 1]' }]);
  });

  it('have names and values in the new and the old form', () => {
    const pairs = commands('ENV a=1 b="two words" c=x\\ y\nENV old the whole rest\nLABEL "a.b"=c d=').map(command =>
      command.kind === 'ENV' || command.kind === 'LABEL' ? command.pairs : [],
    );
    assert.deepEqual(pairs, [
      [
        ['a', '1'],
        ['b', '"two words"'],
        ['c', 'x\\ y'],
      ],
      [['old', 'the whole rest']],
      [
        ['"a.b"', 'c'],
        ['d', ''],
      ],
    ]);
  });

  it('have flags', () => {
    const [copy, run] = commands(
      'COPY --from=a --chown=1:2 --link --exclude=*.o --exclude=x a b\nRUN --mount=type=tmpfs,target=/x --network=none y',
    );
    assert.ok(copy?.kind === 'COPY' && run?.kind === 'RUN');
    assert.deepEqual(copy.flags, {
      from: 'a',
      chown: '1:2',
      link: true,
      parents: false,
      exclude: ['*.o', 'x'],
      keepGitDir: false,
    });
    assert.deepEqual([run.mounts, run.network, run.form], [['type=tmpfs,target=/x'], 'none', { shell: 'y' }]);
  });

  it('give a healthcheck its times in nanoseconds', () => {
    const [first, second] = commands(
      'HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f x\nHEALTHCHECK NONE',
    );
    assert.ok(first?.kind === 'HEALTHCHECK' && second?.kind === 'HEALTHCHECK');
    assert.deepEqual(first.check, {
      form: { shell: 'curl -f x' },
      intervalNs: 90e9,
      timeoutNs: 0.5e9,
      retries: 3,
    });
    assert.deepEqual(second.check, { form: 'none' });
  });

  it('make stages', () => {
    const { globals, stages } = parseDockerfile(
      'ARG V=1\nFROM a:$V AS First\nRUN x\nFROM --platform=linux/amd64 b\nfrom first as third',
    );
    assert.equal(globals.length, 1);
    assert.deepEqual(
      stages.map(({ index, name, base, platform }) => [index, name, base, platform]),
      [
        [0, 'first', 'a:$V', undefined],
        [1, undefined, 'b', 'linux/amd64'],
        [2, 'third', 'first', undefined],
      ],
    );
  });

  for (const [text, line, why] of [
    ['FROM a\nRUN', 2, /RUN has no argument/],
    ['FROM a\n\nCPOY a b', 3, /CPOY is no instruction/],
    ['RUN a\nFROM b', 1, /RUN stands before the first FROM/],
    ['', 1, /there is no FROM/],
    ['# a comment alone', 1, /there is no FROM/],
    ['FROM', 1, /it has another form/],
    ['FROM a AS', 1, /it has another form/],
    ['FROM a b', 1, /it has another form/],
    ['FROM a AS 1x', 1, /is no name for a stage/],
    ['FROM a AS x\nFROM b AS X', 2, /two stages are called x/],
    ['FROM a\nCOPY a', 2, /needs a source and a destination/],
    ['FROM a\nCOPY --chwon=1 a b', 2, /no flag --chwon; perhaps --chown is meant/],
    ['FROM a\nCOPY --chown= a b', 2, /--chown has no value/],
    ['FROM a\nCOPY --link=maybe a b', 2, /neither true nor false/],
    ['FROM a\nENV a', 2, /ENV a has no value/],
    ['FROM a\nENV a=1 b', 2, /b is not of the form name=value/],
    ['FROM a\nARG 1x', 2, /it is no name/],
    ['FROM a\nSHELL /bin/sh', 2, /SHELL needs a JSON list/],
    ['FROM a\nONBUILD FROM b', 2, /ONBUILD FROM is not allowed/],
    ['FROM a\nONBUILD NO x', 2, /NO is no instruction/],
    ['FROM a\nHEALTHCHECK curl x', 2, /it is NONE or CMD/],
    ['FROM a\nHEALTHCHECK --interval=soon CMD x', 2, /--interval=soon/],
    ['FROM a\nRUN --security=insecure x', 2, /--security=insecure/],
    ['FROM a\nVOLUME [""]', 2, /empty path/],
  ] as const)
    it(`refuses ${JSON.stringify(text)}, and says the line`, () =>
      assert.throws(
        () => parseDockerfile(text),
        (error: unknown) => error instanceof DockerfileError && error.place.line === line && why.test(error.message),
      ));
});
