import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { parseLog, useNode } from '../support/node';

const STREAMS = ['stdout', 'stderr'] as const;
type Outputs = Record<(typeof STREAMS)[number], Buffer>;

describe('the log of a container', function () {
  this.timeout(120_000);
  const node = useNode();

  /** What a container is told to do, a shell script a step, and when. */
  class Steps implements Disposable {
    readonly dir: string;
    private readonly gate: number;
    private count = 0;

    constructor() {
      this.dir = join(node().daemon.dir, `steps-${process.hrtime.bigint()}`);
      mkdirSync(this.dir);
      execFileSync('mkfifo', [join(this.dir, 'gate')]);
      this.gate = openSync(join(this.dir, 'gate'), 'r+');
    }

    get container() {
      const command = ['sh', '-c', 'i=0; while read _ < /in/gate; do i=$((i+1)); . /in/step$i; done'];
      return { command, mounts: [{ containerPath: '/in', hostPath: this.dir }] };
    }

    /** Lets the next step begin; it is not waited for. */
    go(script: string): void {
      writeFileSync(join(this.dir, `step${++this.count}`), `${script}\n`);
      writeSync(this.gate, '\n');
    }

    /** Prints both, in writes of so many bytes. */
    print(outputs: Outputs, blockBytes: number): void {
      const next = this.count + 1;
      for (const stream of STREAMS) writeFileSync(join(this.dir, `${stream}${next}`), outputs[stream]);
      const dd = (stream: string) => `dd if=/in/${stream}${next} bs=${blockBytes}`;
      this.go(`${dd('stdout')} 2>/dev/null & ${dd('stderr')} >&2 2>/dev/null; wait`);
    }

    [Symbol.dispose](): void {
      closeSync(this.gate);
      rmSync(this.dir, { recursive: true });
    }
  }

  /** What the container wrote, as its log has it. */
  function written(files: readonly string[]): Outputs {
    const lines = files.flatMap(file => {
      const text = readFileSync(file, 'latin1');
      return text === '' ? [] : parseLog(text);
    });
    const of = (stream: string) =>
      lines.filter(line => line.stream === stream).map(({ tag, text }) => (tag === 'F' ? `${text}\n` : text));
    return {
      stdout: Buffer.from(of('stdout').join(''), 'latin1'),
      stderr: Buffer.from(of('stderr').join(''), 'latin1'),
    };
  }

  function assertSame(actual: Outputs, expected: Outputs): void {
    for (const stream of STREAMS) {
      const at = actual[stream].findIndex((byte, i) => byte !== expected[stream][i]);
      assert.equal(actual[stream].length, expected[stream].length, `${stream}: differs from byte ${at} on`);
      assert.equal(at, -1, stream);
    }
  }

  /** Any bytes, with newlines as often as `line` says. */
  function bytes(length: number, line: number): Buffer {
    const all = Buffer.from(Array.from({ length }, (_, i) => (i * 2654435761) >>> 24));
    for (let i = 0; i < length; i++) if (all[i] === 0x0a) all[i] = 0;
    for (let i = line - 1; i < length; i += line) all[i] = 0x0a;
    return all;
  }

  it('is what was written, byte for byte, over rotations and ends of the daemon in any order', async () => {
    const step = fc.record({
      act: fc.constantFrom('rotate', 'rotate', 'kill', 'nothing'),
      lineBytes: fc.constantFrom(1, 2, 80, 128, 16_383, 16_384, 16_385, 1_048_577),
      how: fc.constantFrom(
        { block: 1, bytes: 5000 },
        { block: 97, bytes: 70_001 },
        { block: 65_536, bytes: 1_200_000 },
      ),
    });
    const steps = fc.array(step, { minLength: 4, maxLength: 7 });
    await fc.assert(
      fc.asyncProperty(steps, async all => {
        using container = new Steps();
        const id = await node().start(await node().pod(), container.container);
        const { logPath } = await node().status(id);
        const expected: Outputs = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
        const rotated: string[] = [];
        for (const { act, lineBytes, how } of all) {
          const outputs = { stdout: bytes(how.bytes, lineBytes), stderr: bytes(how.bytes / 2, lineBytes + 1) };
          container.print(outputs, how.block);
          for (const stream of STREAMS) expected[stream] = Buffer.concat([expected[stream], outputs[stream]]);
          if (act === 'kill') await node().restart();
          for (let i = 0; act === 'rotate' && i < 5; i++) {
            rotated.push(`${logPath}.${rotated.length}`);
            renameSync(logPath, rotated.at(-1) ?? '');
            await node().client.call('ReopenContainerLog', { containerId: id });
          }
        }
        container.go('exit 0');
        await node().exit(id);
        assertSame(written([...rotated, logPath]), expected);
      }),
      { numRuns: 4 },
    );
  });

  it('has a line of 1 MiB, NUL, bytes that are no text, and an end without a newline', async () => {
    using container = new Steps();
    const id = await node().start(await node().pod(), container.container);
    const long = Buffer.concat([Buffer.alloc(1024 * 1024, 'x'), Buffer.from('\n\0\xff\xfe\0\n\n', 'latin1')]);
    const outputs = {
      stdout: Buffer.concat([long, Buffer.from('no end')]),
      stderr: Buffer.from('\xc3\x28\0', 'latin1'),
    };
    container.print(outputs, 4096);
    container.go('exit 0');
    await node().exit(id);
    assertSame(written([(await node().status(id)).logPath]), outputs);
  });

  it('is a file that its group may read, in a directory for root alone where that was not there', async () => {
    const logDirectory = join(node().daemon.dir, 'logs', 'not', 'there');
    const id = await node().start(await node().pod({ logDirectory }), { logPath: 'sub/0.log', command: ['echo', 'x'] });
    await node().exit(id);
    const { logPath } = await node().status(id);
    const modes = [join(logDirectory, '..'), logDirectory, join(logPath, '..'), logPath].map(path => statSync(path));
    assert.deepEqual(
      modes.map(({ mode, uid, gid }) => [(mode & 0o7777).toString(8), uid, gid]),
      [
        ['700', 0, 0],
        ['700', 0, 0],
        ['700', 0, 0],
        ['640', 0, 0],
      ],
    );
  });

  describe('with another limit of a line', () => {
    const other = useNode({ config: '[runtime]\nlog_line_bytes = 100000\n' });

    it('has records of up to that, and loses no byte', async () => {
      const id = await other().start(await other().pod(), {
        command: ['sh', '-c', "yes $(printf %200000s | tr ' ' x) | head -c 200001; head -c 99999 /dev/zero"],
      });
      await other().exit(id);
      const lines = await other().logLines(id);
      assert.deepEqual(
        lines.map(({ tag, text }) => [tag, text.length]),
        [
          ['P', 100_000],
          ['F', 100_000],
          ['P', 99_999],
        ],
      );
    });
  });

  it('costs no memory while nothing is written, also when much was', async () => {
    using container = new Steps();
    const id = await node().start(await node().pod(), container.container);
    const [monitor = ''] = readFileSync(join(node().daemon.state, 'containers', id, 'monitor'), 'utf8').split(' ');
    // Of its own: what it shares with other monitors are the program's pages.
    const ownKilobytes = () => {
      const fields = readFileSync(`/proc/${monitor}/smaps_rollup`, 'utf8');
      return Number(/^Private_Dirty:\s+(\d+) kB/m.exec(fields)?.[1]);
    };
    container.go('yes | head -c 3000000; touch /in/written');
    while (!existsSync(join(container.dir, 'written'))) await sleep(5);
    while (ownKilobytes() > 100) await sleep(20);
    container.go('exit 0');
    await node().exit(id);
  });

  describe('on a disk that is full', () => {
    const LINE = `${'x'.repeat(127)}\n`;
    /** Where a disk of 4 MiB is, in the daemon's mounts; the second path is for this process. */
    let disk: { path: string; seen: string };
    const inMounts = (...command: string[]) =>
      execFileSync('nsenter', [`--mount=/proc/${node().daemon.holderPid}/ns/mnt`, ...command]);

    beforeEach(() => {
      const path = join(node().daemon.dir, 'disk');
      mkdirSync(path);
      inMounts('mount', '-t', 'tmpfs', '-o', 'size=4m', 'none', path);
      disk = { path, seen: join('/proc', String(node().daemon.holderPid), 'root', path) };
      writeFileSync(join(disk.seen, 'filler'), Buffer.alloc(3_500_000));
    });
    afterEach(async () => {
      await node().removeAll();
      inMounts('umount', disk.path);
      rmSync(disk.path, { recursive: true });
    });

    it('drops and counts, says so once there is room, and never stops the container', async () => {
      const bytesToWrite = 3_000_064; // many times more than there is room for
      using container = new Steps();
      const id = await node().start(await node().pod({ logDirectory: disk.path }), {
        ...container.container,
        logPath: 'full.log',
      });
      const log = join(disk.seen, 'full.log');
      container.go(`yes ${LINE.trim()} | head -c ${bytesToWrite}; touch /in/written`);
      while (!existsSync(join(container.dir, 'written'))) await sleep(10);
      while (!node().daemon.log.includes('its output is lost')) await sleep(10);
      assert.match(node().daemon.log, /the log of a container cannot be written \(ENOSPC\)/);
      assert.doesNotMatch(readFileSync(log, 'latin1'), /missing/);

      rmSync(join(disk.seen, 'filler'));
      // Nothing more has to be written for that.
      while (!readFileSync(log, 'latin1').includes('missing here')) await sleep(10);
      container.go('echo after; exit 7');
      assert.equal((await node().exit(id)).exitCode, 7);

      const lines = readFileSync(log, 'latin1').split('\n');
      assert.match(lines.at(-2) ?? '', /^\S+ stdout F after$/);
      const said = lines.findIndex(line => / stderr F berth: \d+ bytes of output are missing here/.test(line));
      const missing = Number(/berth: (\d+) bytes/.exec(lines[said] ?? '')?.[1]);
      // Before it stands a part of a line, if the disk was full within one.
      const before = lines.slice(0, said);
      const isWhole = (line: string) => line.length === 40 + LINE.length - 1;
      const torn = isWhole(before.at(-1) ?? '') ? undefined : before.pop();
      assert.ok(before.every(isWhole));
      assert.equal(before.length * LINE.length + Math.max(0, (torn ?? '').length - 40) + missing, bytesToWrite);
      assert.match(lines[said] ?? '', /No space left on device$/);
    });

    it('tells a daemon that comes later, too', async () => {
      using container = new Steps();
      const id = await node().start(await node().pod({ logDirectory: disk.path }), {
        ...container.container,
        logPath: 'full.log',
      });
      container.go(`yes ${LINE.trim()} | head -c 2000000; touch /in/written`);
      await node().daemon.kill();
      while (!existsSync(join(container.dir, 'written'))) await sleep(10);
      const logged = node().daemon.log.length;
      await node().restart();
      while (!node().daemon.log.slice(logged).includes('its output is lost')) await sleep(10);
      container.go('exit 3');
      assert.equal((await node().exit(id)).exitCode, 3);
    });
  });
});
