import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BerthError } from '../../../src/base/errors';
import { chainIdOf, parseDigest } from '../../../src/image/digest';
import { canonicalForm, digestForm, familiarForm, parseReference, tagForm } from '../../../src/image/reference';

const sha256 = `sha256:${'0123456789abcdef'.repeat(4)}`;
const sha512 = `sha512:${'0123456789abcdef'.repeat(8)}`;

describe('reference', () => {
  const forms: [text: string, canonical: string, familiar: string][] = [
    ['busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['busybox:1.36', 'docker.io/library/busybox:1.36', 'busybox:1.36'],
    ['user/app', 'docker.io/user/app:latest', 'user/app:latest'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['index.docker.io/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['index.docker.io/user/app:2', 'docker.io/user/app:2', 'user/app:2'],
    ['library/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['docker.io/library/a/b', 'docker.io/library/a/b:latest', 'library/a/b:latest'],
    ['docker.io/localhost/app', 'docker.io/localhost/app:latest', 'docker.io/localhost/app:latest'],
    ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
    ['localhost:5000/app', 'localhost:5000/app:latest', 'localhost:5000/app:latest'],
    ['127.0.0.1:5000/app:1', '127.0.0.1:5000/app:1', '127.0.0.1:5000/app:1'],
    ['[::1]:5000/app:1', '[::1]:5000/app:1', '[::1]:5000/app:1'],
    ['Registry/app', 'Registry/app:latest', 'Registry/app:latest'],
    [
      'registry.example/a/b_c/d__e/f---g:v1',
      'registry.example/a/b_c/d__e/f---g:v1',
      'registry.example/a/b_c/d__e/f---g:v1',
    ],
    [`busybox@${sha256}`, `docker.io/library/busybox@${sha256}`, `busybox@${sha256}`],
    [`busybox@${sha512}`, `docker.io/library/busybox@${sha512}`, `busybox@${sha512}`],
    [`registry.example/app:1@${sha256}`, `registry.example/app:1@${sha256}`, `registry.example/app:1@${sha256}`],
  ];
  for (const [text, canonical, familiar] of forms)
    it(`reads ${text.slice(0, 60)}`, () => {
      const reference = parseReference(text);
      assert.equal(canonicalForm(reference), canonical);
      assert.equal(familiarForm(reference), familiar);
    });

  const refusals: [text: string, why: RegExp][] = [
    ['', /names no repository/],
    [':1', /names no repository/],
    ['Busybox', /must be in lower case/],
    ['registry.example/', /names no repository/],
    ['a//b', /not a repository name/],
    ['../../etc/passwd', /is not a host name/],
    ['registry.example/../x', /not a repository name/],
    ['app:', /"" is not a tag/],
    [`app:${'x'.repeat(129)}`, /is not a tag/],
    ['app@sha256:abcd', /is not a digest/],
    [`app@${sha256.toUpperCase()}`, /is not a digest/],
    [`app@md5:${'0'.repeat(32)}`, /is not a digest/],
    [`app@${sha256}@${sha256}`, /is not a digest/],
    ['-registry.example/app', /is not a host name/],
    ['registry.example:port/app', /is not a host name/],
    [`registry.example/${'a'.repeat(250)}`, /longer than 255/],
    ['a'.repeat(64), /image id/],
    ['app\n:1', /not a repository name/],
    ['app:1\n', /not a tag/],
    ['app\0', /not a repository name/],
  ];
  for (const [text, why] of refusals)
    it(`refuses ${JSON.stringify(text.slice(0, 60))}`, () => {
      assert.throws(() => parseReference(text), { kind: 'invalid_argument', message: why });
    });

  const piece = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  const name = fc.array(piece, { minLength: 1, maxLength: 4 }).map(parts => parts.join('/'));
  const host = fc.oneof(
    fc.constantFrom('docker.io', 'localhost', 'localhost:5000', '127.0.0.1:5000', '[::1]:443', 'Registry'),
    piece.map(part => `${part}.example`),
  );
  const which = fc.oneof(
    fc.stringMatching(/^\w[\w.-]{0,20}$/).map(tag => `:${tag}`),
    fc.stringMatching(/^[0-9a-f]{64}$/).map(hex => `@sha256:${hex}`),
    fc.constant(`:v1@${sha512}`),
  );

  it('is the same after it was written and read, in both forms', () => {
    fc.assert(
      fc.property(host, name, which, (aHost, aName, aWhich) => {
        const reference = parseReference(`${aHost}/${aName}${aWhich}`);
        assert.deepEqual(parseReference(canonicalForm(reference)), reference);
        assert.deepEqual(parseReference(familiarForm(reference)), reference);
      }),
      { numRuns: 1000 },
    );
  });

  it('never does anything but read or refuse by a sentence', () => {
    const junk = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[a-zA-Z.:/@_\-[\]0-9 ]{0,40}$/));
    fc.assert(
      fc.property(junk, text => {
        try {
          const reference = parseReference(text);
          assert.deepEqual(parseReference(canonicalForm(reference)), reference);
          assert.ok(!reference.repository.includes('..'));
        } catch (error) {
          assert.ok(error instanceof BerthError, String(error));
          assert.match(error.message, /is not an image reference|is not a digest/);
        }
      }),
      { numRuns: 5000 },
    );
  });

  it('with a digest makes no tag', () => {
    const reference = parseReference(`registry.example/app:1@${sha256}`);
    assert.equal(tagForm(reference), undefined);
    assert.equal(digestForm(reference, parseDigest(sha256, 'test')), `registry.example/app@${sha256}`);
    assert.equal(tagForm(parseReference('app')), 'docker.io/library/app:latest');
  });

  it('of a chain is that of its one layer, and then a hash of both', () => {
    const one = parseDigest(`sha256:${'0'.repeat(64)}`, 'test');
    const two = parseDigest(`sha256:${'1'.repeat(64)}`, 'test');
    assert.equal(chainIdOf([one]), one);
    // printf 'sha256:000… sha256:111…' | sha256sum
    assert.equal(chainIdOf([one, two]), 'sha256:f94b891e05f6e37c90d87edfd5bb98a02d618a437c35f3a94b3b00e48e894631');
  });
});
