import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assertRuns } from '../../../src/container/emulation';
import { parsePlatform } from '../../../src/image/platform';

/** As the kernel shows what Debian's packages register. */
const arm64 = [
  '7f454c460201010000000000000000000200b700',
  'ffffffffffffff00fffffffffffffffffeffffff',
  'qemu-aarch64-static',
] as const;
const s390x = [
  '7f454c4602020100000000000000000000020016',
  'ffffffffffffff00fffffffffffffffffffeffff',
  'qemu-s390x-static',
] as const;
const arm = [
  '7f454c4601010100000000000000000002002800',
  'ffffffffffffff00fffffffffffffffffeffffff',
  'qemu-arm-static',
] as const;

describe('programs for another platform', () => {
  let dir: string;
  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-binfmt-'))));
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const status = (text: string) => writeFileSync(join(dir, 'status'), `${text}\n`);
  const register = (
    [magic, mask, interpreter]: readonly [string, string, string],
    { state = 'enabled', flags = 'OCF', name = interpreter } = {},
  ) =>
    writeFileSync(
      join(dir, name),
      `${state}\ninterpreter /usr/bin/${interpreter}\nflags: ${flags}\noffset 0\nmagic ${magic}\nmask ${mask}\n`,
    );
  const runs = (platform: string, node = 'linux/amd64') =>
    assertRuns(parsePlatform(platform), parsePlatform(node), 'image app', dir);

  it('are run by the emulator that takes them, whatever it is called', async () => {
    status('enabled');
    register(arm64, { name: 'rosetta' });
    register(s390x);
    assert.equal(await runs('linux/arm64'), undefined);
    assert.equal(await runs('linux/s390x'), undefined);
    assert.equal(await runs('linux/arm64', 'linux/ppc64le'), undefined);
    await assert.rejects(runs('linux/arm/v7'), {
      kind: 'failed_precondition',
      message: `image app is for linux/arm/v7, and this node is linux/amd64, which has no emulator for it; register qemu-arm with the flag F in ${dir}, as Debian's packages qemu-user-static and binfmt-support do`,
    });
  });

  it('are the node’s own where it runs them itself', async () => {
    assert.equal(await runs('linux/amd64'), undefined);
    assert.equal(await runs('linux/386'), undefined);
    assert.equal(await runs('linux/arm/v6', 'linux/arm/v7'), undefined);
    assert.match((await runs('linux/amd64/v3')) ?? '', /its processor may lack/);
  });

  it('of 32 bits run on some arm64 processors, and with an emulator on all', async () => {
    assert.match((await runs('linux/arm/v7', 'linux/arm64')) ?? '', /not all processors of its kind/);
    status('enabled');
    register(arm);
    assert.equal(await runs('linux/arm/v7', 'linux/arm64'), undefined);
  });

  it('need the emulator in the image where it is registered without the flag F', async () => {
    status('enabled');
    register(arm64, { flags: 'OC' });
    assert.match(
      (await runs('linux/arm64')) ?? '',
      /its emulator \/usr\/bin\/qemu-aarch64-static is registered without the flag F, so it has to be in the image$/,
    );
    register(arm64, { name: 'another' });
    assert.equal(await runs('linux/arm64'), undefined);
  });

  it('are refused where the emulator, or all of them, are turned off', async () => {
    status('enabled');
    register(arm64, { state: 'disabled' });
    await assert.rejects(runs('linux/arm64'), /whose emulator for it is turned off; turn it on: echo 1 > .*static/);
    register(arm64);
    status('disabled');
    await assert.rejects(runs('linux/arm64'), /turned off; .*\/status where that says disabled$/);
  });

  it('are refused where there are no handlers, and where nothing could take them', async () => {
    await assert.rejects(runs('linux/arm64'), /has no emulator for it; register qemu-aarch64/); // it is not mounted
    rmSync(dir, { recursive: true });
    await assert.rejects(runs('linux/riscv64'), /has no emulator for it; register qemu-riscv64/);
    await assert.rejects(
      runs('windows/amd64'),
      /windows\/amd64, and this node is linux\/amd64, which cannot run or emulate/,
    );
    await assert.rejects(runs('linux/sparc9'), /which cannot run or emulate it; use an image for the node$/);
  });

  it('are not taken by handlers of scripts and of file names', async () => {
    status('enabled');
    writeFileSync(join(dir, 'jar'), 'enabled\ninterpreter /usr/bin/jexec\nflags: F\nextension .jar\n');
    writeFileSync(join(dir, 'python'), 'enabled\ninterpreter /usr/bin/python3\nflags: F\noffset 0\nmagic 6f0d0d0a\n');
    await assert.rejects(runs('linux/arm64'), /has no emulator/);
  });
});
