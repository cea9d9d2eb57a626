import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import {
  LayerProgress_Phase as Phase,
  RunningPull_Operation as Operation,
  RunningPull_Outcome as Outcome,
  type ImportFileSystemStart,
  type LoadStart,
  type RunningPull,
} from '../../src/cri/generated/berth/v1/berth';
import { berth } from './berth';
import { FakeDaemon, failure } from './fake-daemon';

const id = `sha256:${'ab'.repeat(32)}`;

describe('berth load', () => {
  let dir: string;
  beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'berth-load-'))));
  afterEach(() => rmSync(dir, { recursive: true }));

  /** Keeps what it is sent, and answers with two images. */
  async function loader(): Promise<{ daemon: FakeDaemon; starts: LoadStart[]; received: () => Buffer }> {
    const starts: LoadStart[] = [];
    const pieces: Buffer[] = [];
    const daemon = await FakeDaemon.start({
      load: call => {
        call.on('data', ({ start, data }: { start?: LoadStart; data?: Buffer }) => {
          if (start) starts.push(start);
          if (data) pieces.push(data);
        });
        call.on('end', () => {
          const references = ['docker.io/library/app:1', 'registry.example/app:2'];
          call.write({ loaded: { imageId: id, references, platform: '' } });
          call.write({ loaded: { imageId: id, references: [], platform: 'linux/\u009b2J' } });
          call.write({ done: {} });
          call.end();
        });
      },
    });
    return { daemon, starts, received: () => Buffer.concat(pieces) };
  }

  const printed = `Loaded image: app:1\nLoaded image: registry.example/app:2\nLoaded image ID: ${id} (linux/\\u009b2J)\n`;

  it('sends a file, and prints every name that it brought', async () => {
    const { daemon, starts, received } = await loader();
    await using _daemon = daemon;
    const bytes = Buffer.alloc(1_000_000, 'archive');
    const file = join(dir, 'app.tar');
    writeFileSync(file, bytes);
    assert.deepEqual(await berth(daemon, ['load', '-i', file]), { code: 0, stdout: printed, stderr: '' });
    assert.deepEqual(starts, [{ directory: '', name: '', what: file }]);
    assert.ok(received().equals(bytes));
  });

  it('sends stdin, and names a directory', async () => {
    const { daemon, starts, received } = await loader();
    await using _daemon = daemon;
    assert.equal((await berth(daemon, ['load'], 'from a pipe')).stdout, printed);
    assert.equal(received().toString(), 'from a pipe');
    assert.equal((await berth(daemon, ['image', 'load', '--name', 'app:3', dir])).stdout, printed);
    assert.deepEqual(starts[1], { directory: dir, name: 'app:3', what: dir });
  });

  it('says what it cannot read, and what the daemon refuses before all is sent', async () => {
    await using daemon = await FakeDaemon.start({
      load: call => void call.emit('error', failure(status.FAILED_PRECONDITION, 'app.tar: entry "../x": no')),
    });
    const missing = await berth(daemon, ['load', '-i', join(dir, 'none')]);
    assert.deepEqual(
      [missing.code, missing.stderr],
      [1, `berth: ${join(dir, 'none')}: there is no such file or directory\n`],
    );
    const file = join(dir, 'app.tar');
    writeFileSync(file, Buffer.alloc(5_000_000));
    const refused = await berth(daemon, ['load', file]);
    assert.deepEqual([refused.code, refused.stderr], [1, 'berth: app.tar: entry "../x": no\n']);
  });
});

describe('berth save', () => {
  let dir: string;
  beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'berth-save-'))));
  afterEach(() => rmSync(dir, { recursive: true }));

  it('writes what comes into a file, and leaves none when it breaks off', async () => {
    let breaks = false;
    await using daemon = await FakeDaemon.start({
      save: call => {
        assert.deepEqual(call.request, { images: ['a:1', 'b:2'], directory: '', platform: '' });
        call.write({ data: Buffer.from('the ') });
        if (breaks) return void call.emit('error', failure(status.DATA_LOSS, 'the blob is damaged'));
        call.write({ data: Buffer.from('archive') });
        call.end();
      },
    });
    const file = join(dir, 'a.tar');
    assert.deepEqual(await berth(daemon, ['save', '-o', file, 'a:1', 'b:2']), { code: 0, stdout: '', stderr: '' });
    assert.equal(readFileSync(file, 'utf8'), 'the archive');
    assert.equal((await berth(daemon, ['save', 'a:1', 'b:2'])).stdout, 'the archive');
    breaks = true;
    assert.equal((await berth(daemon, ['save', '-o', join(dir, 'b.tar'), 'a:1', 'b:2'])).code, 1);
    assert.deepEqual(readdirSync(dir), ['a.tar']);
  });
});

describe('berth image import', () => {
  it('sends the tar with what is to be changed', async () => {
    let start: ImportFileSystemStart | undefined;
    await using daemon = await FakeDaemon.start({
      importFileSystem: call => {
        call.on('data', (request: { start?: ImportFileSystemStart }) => (start ??= request.start));
        call.on('end', () => {
          call.write({ done: { imageId: id, digest: id, reference: '', changed: true } });
          call.end();
        });
      },
    });
    const args = ['image', 'import', '-c', 'CMD ["sh"]', '-c', 'USER 1', '-m', 'why', '-', 'app:1'];
    assert.deepEqual(await berth(daemon, args, 'tar'), { code: 0, stdout: `${id}\n`, stderr: '' });
    assert.deepEqual(start, { reference: 'app:1', changes: ['CMD ["sh"]', 'USER 1'], message: 'why', what: 'stdin' });
  });
});

describe('berth pulls', () => {
  const layer = { digest: id, phase: Phase.DOWNLOADING, doneBytes: 5_000_000n, totalBytes: 20_000_000n };
  const pull: RunningPull = {
    id: '1',
    reference: 'docker.io/library/app:1',
    operation: Operation.PULL,
    askedBy: ['cri', 'person'],
    startedAtNs: 1_700_000_000_000_000_000n,
    endedAtNs: 0n,
    stage: 'fetch the layers of docker.io/library/app:1',
    layers: [layer, { ...layer, phase: Phase.PRESENT }],
    doneBytes: 5_000_000n,
    totalBytes: 20_000_000n,
    bytesPerSecond: 100_000n,
    remainingSeconds: 150n,
    outcome: Outcome.RUNNING,
    error: '',
    imageId: '',
  };

  it('has a row for each', async () => {
    await using daemon = await FakeDaemon.start({
      pulls: (_, reply) =>
        reply(null, { pulls: [pull, { ...pull, id: '2', outcome: Outcome.FAILED, error: 'no\x1b[2J route' }] }),
    });
    const lines = (await berth(daemon, ['pulls'])).stdout.split('\n');
    assert.match(lines[0] ?? '', /^REFERENCE +FOR +LAYERS +PROGRESS +RATE +LEFT +STAGE$/);
    assert.match(lines[1] ?? '', /^app:1 +kubelet,person +1\/2 +5MB\/20MB 25% +100kB\/s +2m30s +fetch the layers$/);
    assert.match(lines[2] ?? '', /failed: no\\u001b\[2J route$/);
    const [json] = (await berth(daemon, ['pulls', '--format', 'json'])).stdout.split('\n');
    const { outcome, remainingSeconds, endedAt, layers } = JSON.parse(json ?? '') as Record<string, unknown>;
    assert.deepEqual([outcome, remainingSeconds, endedAt, (layers as unknown[]).length], ['running', 150, null, 2]);
  });

  it('--watch prints a line whenever one has changed', async () => {
    await using daemon = await FakeDaemon.start({
      watchPulls: call => {
        call.write({ pulls: [pull] });
        call.write({ pulls: [pull] });
        call.write({ pulls: [{ ...pull, doneBytes: 20_000_000n, outcome: Outcome.SUCCEEDED }] });
        call.end();
      },
    });
    assert.equal(
      (await berth(daemon, ['pulls', '--watch'])).stdout,
      'app:1 kubelet,person 5MB/20MB 25% fetch the layers\napp:1 kubelet,person 20MB/20MB 100% done\n',
    );
  });
});
