import assert from 'node:assert/strict';
import { describePlatform, fits, nodePlatform, parsePlatform } from '../../../src/image/platform';

describe('platforms', () => {
  const read = (text: string) => describePlatform(parsePlatform(text));

  it('are read as people write them', () => {
    const cases: Record<string, string> = {
      'linux/arm64': 'linux/arm64',
      'linux/arm64/v8': 'linux/arm64',
      'linux/arm64/v9': 'linux/arm64/v9',
      'linux/arm': 'linux/arm/v7',
      'linux/arm/6': 'linux/arm/v6',
      'linux/armhf': 'linux/arm/v7',
      'linux/amd64/v1': 'linux/amd64',
      'linux/amd64/v3': 'linux/amd64/v3',
      'Linux/x86_64': 'linux/amd64',
      aarch64: 'linux/arm64',
      riscv64: 'linux/riscv64',
      'windows/amd64': 'windows/amd64',
    };
    assert.deepEqual(
      Object.keys(cases).map(text => [text, read(text)]),
      Object.entries(cases),
    );
  });

  it('that are none are refused', () => {
    for (const text of ['', '/', 'linux/', 'linux//v7', 'linux/arm/v7/x', 'linux arm64', 'linux/../etc'])
      assert.throws(() => parsePlatform(text), /is not a platform; platforms look like linux\/arm64/, text);
  });

  it('fit where one runs the other', () => {
    const of = (image: string, wanted: string) => fits(parsePlatform(image), parsePlatform(wanted));
    assert.ok(of('linux/arm64/v8', 'linux/arm64'));
    assert.ok(of('linux/arm/v6', 'linux/arm/v7'));
    assert.ok(!of('linux/arm/v7', 'linux/arm/v6'));
    assert.ok(!of('linux/amd64/v3', 'linux/amd64'));
    assert.ok(of('linux/amd64', 'linux/amd64/v3'));
    assert.ok(!of('linux/arm64', 'linux/amd64'));
    assert.ok(!of('windows/amd64', 'linux/amd64'));
    // As configs have it, not as people write it.
    assert.ok(fits({ os: 'linux', architecture: 'arm64', variant: 'v8' }, nodePlatform('arm64')));
    assert.ok(fits({ os: 'linux', architecture: 'arm' }, nodePlatform('arm')));
  });
});
