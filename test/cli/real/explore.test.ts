import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readlinkSync, rmSync, truncateSync } from 'node:fs';
import { buildImage } from '../../support/image-builder';
import { writeFiles } from './context';
import { processesNaming, RealDaemon } from './harness';
import { Person } from './person';

interface Report {
  sizeBytes: number;
  wastedBytes: number;
  efficiency: number;
  wasted: { path: string; wastedBytes: number; layers: { layer: number; how: string; by: number }[] }[];
  layers: { diffId: string; createdBy: string; changes?: { kind: string; path: string; differences?: string[] }[] }[];
}

/** Moves the cursor up, and turns the line round. */
const HOSTILE = 'evil\u001b[1A\u202e\u009b2J';

describe('looking into images, with a real daemon', function () {
  this.timeout(240_000);
  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox('localhost/busybox:1');
    const made = buildImage({
      layers: [
        [
          { path: 'etc', type: 'dir' },
          { path: 'etc/a', data: 'a'.repeat(1000) },
          { path: 'etc/b', data: 'b'.repeat(500) },
          { path: 'etc/b2', type: 'hardlink', link: 'etc/b' },
          { path: `etc/${HOSTILE}`, data: 'x' },
          { path: 'dir', type: 'dir' },
          { path: 'dir/old', data: 'o'.repeat(30) },
        ],
        [
          { path: 'etc/a', data: 'c'.repeat(10) },
          { path: 'etc/.wh.b' },
          { path: 'dir', type: 'dir' },
          { path: 'dir/.wh..wh..opq' },
          { path: 'dir/new', data: 'n' },
        ],
      ],
      configDocument: {
        history: [
          { created_by: '/bin/sh -c #(nop) ADD file:1 in / ' },
          { created_by: 'ENV A=b', empty_layer: true },
          { created_by: 'RUN /bin/sh -c rm -r \u001b[2J # buildkit' },
        ],
      },
    });
    await daemon.import(made, 'localhost/made:1');
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));

  const report = async (...args: string[]) =>
    JSON.parse(await daemon.ok('image', 'explore', '--json', ...args)) as Report;

  it('explore shows layers, their lines, what they changed and what is wasted', async () => {
    const text = await daemon.ok('image', 'explore', '--changes', 'localhost/made:1');
    assert.match(
      text,
      /^LAYER +SIZE +WASTED +ADDED +CHANGED +REMOVED +CREATED BY\n1 +1\.53kB +1\.03kB +8 +0 +0 +ADD file:1 in \/\n/,
    );
    assert.match(text, /\n2 +11B +0B +1 +1 +2 +RUN rm -r \\u001b\[2J\n/);
    assert.match(text, /\n2 layers, 1\.54kB, of which later layers replace or remove 1\.03kB: efficiency 33\.2 %\n/);
    assert.match(text, /\nWASTED +LAYERS +PATH\n1kB +1 changed by 2 +\/etc\/a\n30B +1 removed by 2 +\/dir\/old\n/);
    const second = text.slice(text.indexOf('\nLayer 2:')).trim().split('\n').slice(1);
    assert.deepEqual(second, ['A      1B /dir/new', 'D     30B /dir/old', 'C     10B /etc/a', 'D    500B /etc/b']);
    assert.ok(text.includes('A      1B /etc/evil\\u001b[1A\\u202e\\u009b2J\n'), text);
    assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  });

  it('explore has the same as JSON, in which names are as they are', async () => {
    const json = await daemon.ok('image', 'explore', '--json', '--changes', 'localhost/made:1');
    assert.doesNotMatch(json, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    const { layers, wastedBytes, sizeBytes, wasted } = JSON.parse(json) as Report;
    assert.deepEqual([sizeBytes, wastedBytes], [1542, 1030]);
    assert.ok(layers[0]?.changes?.some(({ path }) => path === `/etc/${HOSTILE}`));
    assert.deepEqual(
      layers[1]?.changes?.map(({ kind, path }) => `${kind} ${path}`),
      ['added /dir/new', 'removed /dir/old', 'changed /etc/a', 'removed /etc/b'],
    );
    assert.deepEqual(wasted[0], {
      path: '/etc/a',
      wastedBytes: 1000,
      layers: [{ layer: 1, how: 'changed', by: 2, sizeBytes: 1000 }],
    });
  });

  it('explore ends with 1 where an image does not keep to the rules, and with 2 where there is none', async () => {
    const rules = ['--lowest-efficiency', '0.33', '--highest-wasted-bytes', '2k'];
    assert.equal((await daemon.berth('image', 'explore', ...rules, 'localhost/made:1')).code, 0);
    const broken = await daemon.berth('image', 'explore', '--lowest-efficiency', '0.9', 'localhost/made:1');
    const sentence = 'berth: image localhost/made:1: its efficiency is 0.3320, below 0.9\n';
    assert.deepEqual([broken.code, broken.stderr], [1, sentence]);
    assert.match(broken.stdout, /efficiency 33\.2 %/);
    const missing = await daemon.berth('image', 'explore', 'localhost/nothing:1');
    assert.equal(missing.code, 2);
    assert.match(missing.stderr, /^berth: no image is called "localhost\/nothing:1"/);
    assert.equal((await daemon.berth('image', 'explore', '--lowest-efficiency', '90', 'localhost/made:1')).code, 2);
  });

  describe('at a terminal', () => {
    const ENTERED = '\x1b[?1049h';
    const LEFT = '\x1b[?1049l';
    let person: Person;
    const explore = (...flags: string[]) => {
      person = Person.at(daemon.socket, 'image', 'explore', ...flags, 'localhost/made:1');
    };
    afterEach(() => person.leave());
    const isAsBefore = () => {
      const { seen } = person;
      assert.ok(seen.lastIndexOf(LEFT) > seen.lastIndexOf(ENTERED), JSON.stringify(seen));
      assert.match(seen.slice(seen.lastIndexOf(LEFT)), /[^-]icanon[^]*[^-]echo /);
    };

    it('explore is a view to walk through, and gives the terminal back', async () => {
      explore();
      await person.sees('8 added, 0 changed, 0 removed');
      person.type('j');
      await person.sees('1 added, 1 changed, 2 removed');
      person.type('\t');
      await person.sees('Space fold');
      person.type('ue/evil\r');
      await person.sees('evil\\u001b[1A\\u202e\\u009b2J');
      person.type('q');
      await person.sees('code 0');
      await person.ended;
      isAsBefore();
      assert.doesNotMatch(person.seen, /\u202e|\u009b|\x1b\[1A/);
    });

    it('explore follows the size of the terminal, and ends with a signal in order', async () => {
      explore('--top', String(process.pid));
      await person.sees('efficiency');
      const shown = processesNaming([`explore --top ${process.pid} localhost`]).find(line => !line.includes('stty'));
      const pid = Number(shown?.split(' ')[0]);
      const seen = person.seen.length;
      execFileSync('stty', ['-F', readlinkSync(`/proc/${pid}/fd/0`), 'cols', '40', 'rows', '9']);
      await person.sees('Tab other pane · w wasted ·…', seen);
      process.kill(pid, 'SIGTERM');
      await person.sees('code 143');
      await person.ended;
      isAsBefore();
    });

    it('explore gives the terminal back while it is stopped', async () => {
      person = Person.stopping(daemon.socket, 'image', 'explore', 'localhost/made:1');
      await person.sees('efficiency');
      person.type('\x1a');
      await person.sees('stopped 148');
      const stopped = person.seen.indexOf('stopped 148');
      assert.ok(person.seen.lastIndexOf(LEFT, stopped) > person.seen.lastIndexOf(ENTERED, stopped));
      await person.sees('efficiency', stopped);
      person.type('q');
      await person.sees('code 0');
      await person.ended;
      isAsBefore();
    });

    it('explore --no-tty is lines there, too', async () => {
      explore('--no-tty');
      await person.sees('code 0');
      await person.ended;
      assert.match(person.seen, /^LAYER +SIZE/);
      assert.ok(!person.seen.includes(ENTERED));
    });
  });

  it('sees what a build did, directories that were made anew among it', async () => {
    const context = daemon.path('context');
    writeFiles(context, {
      file: 'from the context',
      Dockerfile: [
        'FROM localhost/busybox:1',
        'RUN mkdir /d /e && echo one > /d/one && echo two > /d/two && echo kept > /e/kept',
        'RUN rm -r /d && mkdir /d && echo new > /d/one && chmod 700 /e/kept',
        'ENV A=b',
        'COPY file /e/file',
      ].join('\n'),
    });
    const { code, stderr } = await daemon.berth('build', '-t', 'built', context);
    assert.equal(code, 0, stderr);
    rmSync(context, { recursive: true });
    const { layers } = await report('--changes', 'built');
    const [copy, made, first] = layers.slice().reverse();
    const changes = (layer: Report['layers'][number] | undefined) =>
      layer?.changes?.map(({ kind, path, differences = [] }) => [kind, path, ...differences].join(' '));
    assert.deepEqual(changes(first), ['added /d', 'added /d/one', 'added /d/two', 'added /e', 'added /e/kept']);
    assert.deepEqual(changes(made), ['changed /d/one content', 'removed /d/two', 'changed /e/kept mode']);
    assert.deepEqual(changes(copy), ['added /e/file']);
    assert.match(copy?.createdBy ?? '', /COPY file \/e\/file/);
  });

  it('diff shows what is not the same in two images, and in their configs', async () => {
    const diff = await daemon.ok('image', 'diff', 'localhost/busybox:1', 'built');
    const lines = diff.split('\n');
    for (const wanted of ['A config env A: b', 'A 0B /d', 'A 4B /d/one', 'A 5B /e/kept', 'A 16B /e/file'])
      assert.ok(lines.includes(wanted), `${wanted} in ${diff}`);
    assert.match(diff, /\n5 added, 0 changed, 0 removed, \+25B; 1 of the config\n$/);
    const back = await daemon.berth('image', 'diff', '--exit-code', '--json', 'built', 'localhost/busybox:1');
    assert.equal(back.code, 1, back.stderr);
    assert.ok(back.stdout.includes('{"kind":"removed","path":"/e/file","type":"file","sizeBytes":16}\n'), back.stdout);
    const made = await daemon.ok('image', 'diff', 'localhost/busybox:1', 'localhost/made:1');
    assert.doesNotMatch(made, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    assert.equal(await daemon.ok('image', 'diff', '--exit-code', 'built', 'built'), 'The images are the same\n');
    assert.equal((await daemon.berth('image', 'diff', 'built', 'nothing')).code, 2);
  });

  it('says what to do when the list of a layer is damaged or gone', async () => {
    const layers = [[{ path: 'only-here', data: 'x' }]];
    await daemon.import(buildImage({ layers }), 'localhost/broken:1');
    const [layer] = (await report('localhost/broken:1')).layers;
    const manifest = daemon.path('root/layers', (layer?.diffId ?? '').replace(':', '-'), 'manifest');
    const explore = () => daemon.berth('image', 'explore', 'localhost/broken:1');
    truncateSync(manifest, 40);
    const cut = await explore();
    assert.deepEqual([cut.code, cut.stdout], [2, '']);
    assert.match(
      cut.stderr,
      /^berth: the list of the files of layer [0-9a-f]{12} is cut off .*berth check --repair\n$/,
    );
    rmSync(manifest);
    const gone = await explore();
    assert.equal(gone.code, 2);
    assert.match(
      gone.stderr,
      /^berth: the list of the files of layer sha256:[0-9a-f]{64} is gone; .*berth check --repair\n$/,
    );
    await daemon.ok('rmi', 'localhost/broken:1');
  });
});
