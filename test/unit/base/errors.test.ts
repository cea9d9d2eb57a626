import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BerthError, isAbsent, kindOf, messageOf, redact } from '../../../src/base/errors';

describe('redact', () => {
  const letters = (alphabet: string, minLength: number) =>
    fc.string({ unit: fc.constantFrom(...alphabet), minLength, maxLength: 40 });
  // Of capitals, so that it cannot be found in the text around it.
  const secret = letters('ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789', 8);
  const around = letters('abcdef .,', 0);
  const host = fc.constantFrom('registry.example', 'localhost:5000', '[::1]:5000');

  it('takes user info out of URLs', () => {
    fc.assert(
      fc.property(
        around,
        fc.constantFrom('https', 'http', 'socks5'),
        secret,
        host,
        around,
        (before, scheme, password, at, after) => {
          const text = redact(`${before} ${scheme}://user:${password}@${at}/v2/ ${after}`);
          assert.equal(text, `${before} ${scheme}://${at}/v2/ ${after}`);
        },
      ),
    );
  });

  it('takes query strings out of URLs', () => {
    fc.assert(
      fc.property(around, host, secret, around, (before, at, token, after) => {
        const text = redact(`${before} "https://${at}/blob?X-Signature=${token}&n=1" ${after}`);
        assert.equal(text, `${before} "https://${at}/blob?…" ${after}`);
      }),
    );
  });

  it('takes values out of queries that follow no URL', () => {
    fc.assert(
      fc.property(around, host, secret, around, (before, at, token, after) => {
        const text = redact(`${before} "${at}/app:1?token=${token}&n=1" ${after}`);
        assert.equal(text, `${before} "${at}/app:1?token=…&n=…" ${after}`);
      }),
    );
  });

  it('takes tokens out of headers', () => {
    fc.assert(
      fc.property(around, fc.constantFrom('Bearer', 'Basic'), secret, around, (before, scheme, token, after) => {
        assert.equal(redact(`${before} ${scheme} ${token} ${after}`), `${before} ${scheme} … ${after}`);
      }),
    );
  });
});

describe('BerthError', () => {
  it('holds no secret, and ends with its hint', () => {
    const error = new BerthError('unavailable', 'GET https://u:secret@r.example/v2/ failed', {
      hint: 'check the registry',
    });
    assert.equal(error.message, 'GET https://r.example/v2/ failed; check the registry');
    assert(!error.stack?.includes('secret'));
    assert.equal(error.hint, 'check the registry');
  });

  it('is told from others', () => {
    assert.equal(kindOf(new BerthError('not_found', 'x')), 'not_found');
    assert.equal(kindOf(new TypeError('x')), 'internal');
    assert.equal(messageOf(new Error('GET http://u:p@h/')), 'GET http://h/');
    assert.equal(messageOf('text'), 'text');
    assert.equal(isAbsent(Object.assign(new Error('x'), { code: 'ENOENT' })), true);
    assert.equal(isAbsent(Object.assign(new Error('x'), { code: 'EACCES' })), false);
    assert.equal(isAbsent(null), false);
  });
});
