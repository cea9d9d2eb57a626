import assert from 'node:assert/strict';
import { BerthError } from '../../../src/base/errors';
import { Tokens } from '../../../src/streaming/tokens';

const any = () => true;

describe('streaming tokens', () => {
  it('are 128 random bits, good once', () => {
    const tokens = new Tokens<string>();
    const token = tokens.mint('a');
    assert.equal(Buffer.from(token, 'base64url').length, 16);
    assert.equal(tokens.take(token, any), 'a');
    assert.equal(tokens.take(token, any), undefined);
    assert.equal(new Set(Array.from({ length: 500 }, () => tokens.mint('b'))).size, 500);
    tokens.close();
  });

  it('live for a minute', () => {
    let now = 0;
    const tokens = new Tokens<string>(() => now);
    const first = tokens.mint('first');
    now = 59_999;
    const second = tokens.mint('second');
    assert.equal(tokens.take(first, any), 'first');
    now = 119_999;
    assert.equal(tokens.take(second, any), undefined);
    assert.equal(tokens.size, 0);
    tokens.close();
  });

  it('one of another kind stays for whom it is for', () => {
    const tokens = new Tokens<string>();
    const token = tokens.mint('attach');
    assert.equal(
      tokens.take(token, value => value === 'exec'),
      undefined,
    );
    assert.equal(
      tokens.take(token, value => value === 'attach'),
      'attach',
    );
    tokens.close();
  });

  it('no more than a thousand wait, and room comes with time', () => {
    let now = 0;
    const tokens = new Tokens<number>(() => now);
    for (let i = 0; i < 1000; i++) tokens.mint(i);
    assert.throws(
      () => tokens.mint(1000),
      (error: BerthError) => error.kind === 'resource_exhausted',
    );
    assert.equal(tokens.size, 1000);
    now = 60_000;
    tokens.mint(1000);
    assert.equal(tokens.size, 1);
    tokens.close();
  });
});
