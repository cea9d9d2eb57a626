import assert from 'node:assert/strict';
import type { Digest } from '../../../src/image/digest';
import { bundleOf } from '../../../src/image/exported';
import type { ImageRecord } from '../../../src/image/record';
import { blob, buildImage, buildIndex, descriptor, document, type Blob } from '../../support/image-builder';

describe('images that have a name in common', () => {
  const own = buildImage({ layers: [], architecture: 'amd64' });
  const other = buildImage({ layers: [], architecture: 'arm64' });
  const entry = (image: typeof own, architecture: string) => ({ image, platform: { os: 'linux', architecture } });
  const whole = buildIndex([entry(own, 'amd64'), entry(other, 'arm64')]);

  /** As pulls of `tops` leave them. */
  const recordOf = ({ id, manifest, config }: typeof own, tops: readonly Blob[]) => {
    const content = [...tops, manifest, config].map(({ digest, bytes }) => ({ digest, sizeBytes: bytes.length }));
    return { id, content } as unknown as ImageRecord;
  };
  const bundle = (...tops: Blob[]) => {
    const blobs = new Map([...tops, own.manifest, other.manifest].map(one => [one.digest, one.bytes]));
    const content = { read: (digest: Digest) => Promise.resolve(blobs.get(digest)) };
    return bundleOf(content, [recordOf(own, tops), recordOf(other, tops)], ['localhost/app:1']);
  };

  it('are the index that has brought them, if it names nothing else', async () => {
    const noise = blob('application/octet-stream', Buffer.from('{ "manifests": of no document'));
    const { index, images, tags } = await bundle(noise, whole);
    assert.deepEqual([index?.digest, index?.mediaType, tags], [whole.digest, whole.mediaType, ['localhost/app:1']]);
    assert.deepEqual(
      images.map(({ record }) => record.content.map(({ digest }) => digest)),
      [own, other].map(({ manifest, config }) => [manifest.digest, config.digest]),
    );
    const list = buildIndex([entry(own, 'amd64'), entry(other, 'arm64')], 'docker');
    assert.equal((await bundle(list)).index?.mediaType, list.mediaType);
  });

  it('are the first of them, if the index names more', async () => {
    const third = buildImage({ layers: [], architecture: 's390x' });
    const { mediaType, schemaVersion, manifests } = JSON.parse(whole.bytes.toString()) as {
      mediaType: string;
      schemaVersion: number;
      manifests: object[];
    };
    const withMore = (more: object) =>
      document(mediaType, { mediaType, schemaVersion, manifests: [...manifests, more] });
    const attestation = { ...descriptor(third.manifest), platform: { os: 'unknown', architecture: 'unknown' } };
    for (const [what, index] of [
      ['another platform', buildIndex([entry(own, 'amd64'), entry(other, 'arm64'), entry(third, 's390x')])],
      ['an attestation', withMore(attestation)],
      ['an index', withMore(descriptor(whole))],
    ] as const) {
      const { index: found, images } = await bundle(index);
      assert.equal(found, undefined, what);
      assert.deepEqual(
        images.map(({ record }) => record.id),
        [own.id],
        what,
      );
    }
  });

  it('are no index where each has come by itself', async () => {
    const blobs = new Map([[whole.digest, whole.bytes]]);
    const content = { read: (digest: Digest) => Promise.resolve(blobs.get(digest)) };
    const { index, images } = await bundleOf(content, [recordOf(own, [whole]), recordOf(other, [])], []);
    assert.deepEqual([index, images.length], [undefined, 1]);
  });
});
