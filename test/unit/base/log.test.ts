import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { LogFormat, LogLevel } from '../../../src/base/log';
import { repoRoot } from '../../support/repo';

describe('createLogger', () => {
  /** The lines on stderr of a process that runs `body` with a `log` and exits in the same tick. */
  const linesOf = (level: LogLevel, format: LogFormat, body: string) => {
    const module = join(repoRoot, 'dist/src/base/log.js');
    const program = `const log = require(${JSON.stringify(module)}).createLogger('${level}', '${format}'); ${body}; process.exit(0)`;
    const { status, stderr, stdout } = spawnSync(process.execPath, ['-e', program], {
      encoding: 'utf8',
      timeout: 8000,
    });
    assert.equal(status, 0, stderr);
    assert.equal(stdout, '');
    return stderr.split('\n').slice(0, -1);
  };

  it('has written every line when the call returns', () => {
    const lines = linesOf('info', 'text', 'for (let i = 0; i < 500; i++) log.info("line " + i)');
    assert.equal(lines.length, 500);
    assert.match(lines[499] ?? '', /^\S+Z INFO {2}line 499$/);
  });

  it('leaves out what is less important than its level', () => {
    const lines = linesOf('warn', 'text', 'log.error("e"); log.warn("w"); log.info("i"); log.debug("d")');
    assert.deepEqual(
      lines.map(line => line.replace(/^\S+ /, '')),
      ['ERROR e', 'WARN  w'],
    );
  });

  it('writes fields, bigints and errors, and no secrets, in both formats', () => {
    const body =
      'log.with({ pod: "p 1" }).info("GET https://u:pw@h/", { ns: 5n, error: new Error("at https://u:pw@h/") })';
    const [text = ''] = linesOf('info', 'text', body);
    assert.match(text, / INFO {2}GET https:\/\/h\/ /);
    assert.match(text, / pod="p 1"/);
    assert.match(text, / ns=5\b/);
    assert.match(text, / error="at https:\/\/h\/"/);
    const [json = ''] = linesOf('info', 'json', body);
    const { message, pod, ns, error } = JSON.parse(json) as Record<string, unknown>;
    assert.deepEqual(
      { message, pod, ns, error },
      { message: 'GET https://h/', pod: 'p 1', ns: '5', error: 'at https://h/' },
    );
  });

  it('survives a closed stderr', () => {
    assert.deepEqual(linesOf('info', 'text', 'require("node:fs").closeSync(2); log.info("lost")'), []);
  });
});
