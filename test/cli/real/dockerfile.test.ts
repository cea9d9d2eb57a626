import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { tar } from '../../support/image-builder';
import { startSshServer } from '../../support/ssh-server';
import { startBerth } from '../berth';
import { writeFiles, type Files } from './context';
import { RealDaemon } from './harness';

const base = 'localhost/busybox:1';

/** `@` in arguments is the daemon's own folder. A Dockerfile whose own steps look whether it did what it should. */
interface Case {
  readonly what: string;
  readonly files?: Files;
  readonly lines: readonly string[];
  readonly args?: readonly string[];
  /** What no file of the daemon has afterwards. */
  readonly hidden?: string;
  /** Of the image's config, as `berth inspect` shows it. */
  readonly config?: Readonly<Record<string, unknown>>;
}

const cases: readonly Case[] = [
  {
    what: 'FROM with ARGs before it, ARG and ENV, and what goes over what',
    args: ['--build-arg', 'GIVEN=by me', '--build-arg', 'BASE=localhost/busybox'],
    lines: [
      'ARG BASE=nothing',
      'ARG TAG=1',
      'ARG INHERITED=global',
      'FROM ${BASE}:$TAG',
      'ARG GIVEN=default',
      'ARG INHERITED',
      'ARG TARGETOS',
      'ARG HIDDEN=arg',
      'ENV HIDDEN=env A="two words" B=$GIVEN',
      'ENV A=changed C=$A',
      'RUN test "$GIVEN,$INHERITED,$TARGETOS,$HIDDEN" = "by me,global,linux,env"',
      'RUN test "$A,$B,$C" = "changed,by me,two words"',
      'RUN test -z "$TAG"',
    ],
  },
  {
    what: 'RUN in exec form, in shell form, with another SHELL, and with heredocs',
    lines: [
      `FROM ${base}`,
      'RUN ["touch", "/a b"]',
      'RUN test -e "/a b" && \\',
      '  # a comment within',
      '  touch /c',
      'RUN <<EOF',
      'set -e',
      'x=in-a-script',
      'echo "$x" > /d',
      'EOF',
      'RUN cat > /e <<"END" && cat >> /e <<-LAST',
      '$not a variable',
      'END',
      '\tand the last',
      'LAST',
      'RUN <<EOF',
      '#!/bin/sh -e',
      'echo "$0" > /f',
      'EOF',
      'SHELL ["/bin/sh", "-e", "-c"]',
      'RUN false || echo "$-" > /g',
      'RUN test "$(cat /d)" = in-a-script && test "$(head -n 1 /e)" = "\\$not a variable" && grep -q "^and the last$" /e',
      'RUN grep -q e /g && test -s /f && test ! -e /dev/pipes',
    ],
  },
  {
    what: 'COPY: files, directories, patterns, several things, and where they come',
    files: {
      'a.txt': 'a',
      'b.txt': 'b',
      'c.md': 'c',
      'dir/x': 'x',
      'dir/sub/y': 'y',
      link: '-> a.txt',
      'dir/inner': '-> x',
    },
    lines: [
      `FROM ${base}`,
      'WORKDIR /w',
      'COPY a.txt .',
      'COPY a.txt renamed',
      'COPY *.txt /many/',
      'COPY dir /whole',
      'COPY dir/ dir2/',
      'COPY ["a.txt", "/with blank/"]',
      'COPY link /followed',
      'COPY none* a.txt /patterns/',
      'COPY d*/s?b /globbed/',
      'RUN test -f /w/a.txt -a -f /w/renamed -a ! -e /w/b.txt',
      'RUN test "$(ls /many | tr "\\n" " ")" = "a.txt b.txt "',
      'RUN test -f /whole/x -a -f /whole/sub/y -a -h /whole/inner -a -f /w/dir2/sub/y',
      'RUN test -f "/with blank/a.txt" -a ! -h /followed -a "$(cat /followed)" = a',
      'RUN test "$(ls /patterns)" = a.txt -a "$(ls /globbed)" = y',
      'RUN test "$(stat -c %u:%g:%a /whole /w/a.txt | tr "\\n" " ")" = "0:0:755 0:0:644 "',
    ],
  },
  {
    what: 'COPY --chown, --chmod, --exclude, --parents, --link',
    files: { 'a/b/c.txt': 'c', 'a/b/d.o': 'd', 'e.sh': 'e' },
    lines: [
      `FROM ${base}`,
      'COPY --chown=user a /by-name/',
      'COPY --chown=12:34 e.sh /by/number/',
      'COPY --chmod=0751 e.sh /mode',
      'COPY --exclude=**/*.o a /some',
      'ENV WHAT=o',
      'COPY --exclude=**/*.$WHAT a /some-by-name',
      'COPY --parents a/b/c.txt /kept/',
      'COPY --parents a/./b/*.txt /pivot/',
      'COPY --link --chown=5 e.sh /linked/e.sh',
      'RUN test "$(stat -c %u:%g /by-name/b/c.txt)" = 1000:1000',
      'RUN test "$(stat -c %u:%g:%a /by/number/e.sh)" = 12:34:644',
      'RUN test "$(stat -c %a /mode)" = 751',
      'RUN test -e /some/b/c.txt -a ! -e /some/b/d.o',
      'RUN test -e /some-by-name/b/c.txt -a ! -e /some-by-name/b/d.o',
      'RUN test -e /kept/a/b/c.txt -a -e /pivot/b/c.txt',
      'RUN test "$(stat -c %u:%g /linked/e.sh)" = 5:5',
    ],
  },
  {
    what: 'COPY over what is there, and through links of the image, which do not lead out',
    files: { a: 'new', 'dir/b': 'b' },
    lines: [
      `FROM ${base}`,
      'RUN mkdir -p /real && ln -s /real /to-dir && ln -s /../../../../out /out-link && echo old > /file && ln -s /file /to-file && chmod 700 /real',
      'COPY a /file',
      'COPY a /to-file',
      'COPY a /to-dir/',
      'COPY dir /to-dir',
      'COPY a /out-link/deep',
      'RUN test "$(cat /file)" = new -a ! -h /to-file -a "$(cat /real/a /real/b)" = newb -a "$(stat -c %a /real)" = 700',
      'RUN test "$(cat /out/deep)" = new -a -h /to-dir',
    ],
  },
  {
    what: 'COPY and ADD of heredocs, with variables and without',
    lines: [
      `FROM ${base}`,
      'ENV WHO=world',
      'COPY <<EOF /greeting',
      'hello $WHO \\$WHO "quoted"',
      'EOF',
      'COPY <<"A" <<B /dir/',
      '$WHO',
      'A',
      '${WHO:-x}',
      'B',
      'ADD --chmod=755 <<-EOF /script',
      '\t#!/bin/sh',
      '\techo ran',
      'EOF',
      'RUN test "$(cat /greeting)" = \'hello world $WHO "quoted"\' && test "$(cat /dir/A /dir/B | tr "\\n" " ")" = \'$WHO world \' && test "$(/script)" = ran',
    ],
  },
  {
    what: 'stages: by name, by number, from one another, and an image; what is not needed is not built',
    lines: [
      `FROM ${base} AS first`,
      'RUN echo one > /one && adduser -D -u 77 x 2>/dev/null; mkdir /owned && echo o > /owned/o && chown -R 77:77 /owned',
      'FROM no-such-image AS never',
      'RUN exit 1',
      'FROM first AS second',
      'RUN echo two > /two',
      `FROM ${base}`,
      'COPY --from=first /one /',
      'COPY --from=2 /two /',
      `COPY --from=${base} /etc/group /from-image`,
      'COPY --from=first /owned /owned',
      'COPY --from=first --chown=0 /owned/o /given',
      'RUN test "$(cat /one /two | tr "\\n" " ")" = "one two " -a -s /from-image',
      'RUN test "$(stat -c %u:%g /owned/o /given | tr "\\n" " ")" = "77:77 0:0 "',
    ],
  },
  {
    what: 'RUN --mount: bind, cache, tmpfs',
    files: { 'in.txt': 'in', 'dir/a': 'a' },
    lines: [
      `FROM ${base} AS other`,
      'RUN echo from-other > /x',
      `FROM ${base}`,
      'WORKDIR /w',
      'RUN --mount=type=bind,source=in.txt,target=in.txt test "$(cat in.txt)" = in && ! touch in.txt 2>/dev/null',
      'RUN --mount=target=/ctx test "$(cat /ctx/dir/a)" = a',
      'RUN --mount=type=bind,from=other,source=/x,target=/y test "$(cat /y)" = from-other',
      'RUN --mount=type=bind,source=dir,target=/rw,rw echo b > /rw/a && test "$(cat /rw/a)" = b',
      'RUN --mount=source=dir,target=/ro test "$(cat /ro/a)" = a',
      'RUN --mount=type=cache,target=/cache echo kept > /cache/file',
      'RUN --mount=type=cache,target=/elsewhere,id=/cache,sharing=locked test "$(cat /elsewhere/file)" = kept',
      'RUN --mount=type=cache,target=/a,id=/cache,sharing=locked --mount=type=cache,target=/b,id=/cache,sharing=locked test -s /a/file -a -s /b/file',
      'RUN --mount=type=tmpfs,target=/tmpfs,size=64k touch /tmpfs/x && grep -q "/tmpfs tmpfs" /proc/mounts',
      'RUN test ! -e /cache -a ! -e /tmpfs -a ! -e /w/in.txt -a ! -e /ctx',
    ],
  },
  {
    what: 'RUN --mount=type=secret as a file and as a variable, and --network=none',
    files: { '../token': 'hush-8f2c' },
    hidden: 'hush-8f2c',
    args: ['--secret', 'id=token,src=@/token', '--secret', 'id=file,src=/etc/passwd'],
    lines: [
      `FROM ${base}`,
      'RUN --mount=type=secret,id=token test "$(cut -d- -f2 /run/secrets/token)" = 8f2c -a "$(stat -c %a /run/secrets/token)" = 400',
      'ENV TOKEN=other',
      'RUN --mount=type=secret,id=token,env=TOKEN test "${TOKEN%-*}" = hush -a "${TOKEN#*-}" = 8f2c',
      'RUN --mount=type=secret,id=file,target=/f,mode=0444 test -s /f -a "$(stat -c %a /f)" = 444',
      'RUN --mount=type=secret,id=not-given test ! -e /run/secrets/not-given',
      'RUN --network=none test "$(ls /sys/class/net)" = lo',
      'RUN test ! -e /run/secrets',
    ],
  },
  {
    what: 'WORKDIR and USER',
    lines: [
      `FROM ${base}`,
      'WORKDIR /a',
      'WORKDIR b',
      'ENV DIR=c',
      'WORKDIR $DIR',
      'RUN test "$PWD" = /a/b/c',
      'USER user',
      'WORKDIR /mine',
      'RUN test "$(id -u)" = 1000 && touch x',
      'USER 12:34',
      'RUN test "$(id -u):$(id -g)" = 12:34',
    ],
  },
  {
    what: 'instructions that only say something of the image',
    args: ['--label', 'given=here'],
    lines: [
      `FROM ${base}`,
      'ENV PORT=53',
      'LABEL one=1 "two words"="x y"',
      'EXPOSE 80 $PORT/udp 8000-8002/tcp',
      'VOLUME /data /more',
      'VOLUME ["/third"]',
      'STOPSIGNAL SIGINT',
      'USER user',
      'HEALTHCHECK --interval=5s --retries=2 CMD test -e /ok',
      'ENTRYPOINT ["echo"]',
      'CMD ["a", "b"]',
      'ONBUILD RUN echo triggered > /triggered',
      'MAINTAINER somebody',
    ],
    config: {
      user: 'user',
      entrypoint: ['echo'],
      cmd: ['a', 'b'],
      volumes: ['/data', '/more', '/third'],
      exposedPorts: ['80/tcp', '53/udp', '8000/tcp', '8001/tcp', '8002/tcp'],
      labels: { one: '1', 'two words': 'x y', given: 'here' },
      stopSignal: 'SIGINT',
    },
  },
  {
    what: 'CMD goes with another ENTRYPOINT, unless it is given here',
    lines: [`FROM ${base} AS one`, 'CMD ["of one"]', 'FROM one', 'ENTRYPOINT ["e"]'],
    config: { entrypoint: ['e'], cmd: [] },
  },
  {
    what: 'another escape character',
    lines: ['# escape=`', `FROM ${base}`, 'RUN echo a `', '  && echo "\\\\" > /b', 'RUN test -s /b'],
  },
];

describe('instructions of a Dockerfile, with a real daemon', function () {
  this.timeout(180_000);
  let daemon: RealDaemon;
  let context: string;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(base);
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));
  beforeEach(() => {
    context = daemon.path('context');
    rmSync(context, { recursive: true, force: true });
    mkdirSync(context);
  });

  async function build(files: Files, lines: readonly string[], ...args: string[]) {
    writeFiles(context, { ...files, Dockerfile: `${lines.join('\n')}\n` });
    return daemon.berth('build', '-t', 'image', ...args, context);
  }

  async function built(files: Files, lines: readonly string[], ...args: string[]): Promise<string> {
    const { code, stderr } = await build(files, lines, ...args);
    assert.equal(code, 0, stderr);
    return stderr;
  }

  for (const { what, files = {}, lines, args = [], config, hidden } of cases)
    it(what, async () => {
      await built(files, lines, ...args.map(arg => arg.replace('@', daemon.folder)));
      if (hidden !== undefined)
        assert.equal(
          spawnSync('grep', ['-rlaF', '-D', 'skip', hidden, 'root', 'state'], { cwd: daemon.folder }).stdout.toString(),
          '',
        );
      if (!config) return;
      const shown = JSON.parse(await daemon.ok('image', 'inspect', 'image')) as { config: Record<string, unknown> }[];
      const found = shown[0]?.config ?? {};
      assert.deepEqual(Object.fromEntries(Object.keys(config).map(key => [key, found[key]])), config);
    });

  it('ONBUILD is done by whoever builds on the image, once', async () => {
    await built({}, [
      `FROM ${base}`,
      'ONBUILD RUN echo triggered >> /triggered',
      'ONBUILD COPY --from=one /bin/busybox /another',
      'RUN test ! -e /triggered',
    ]);
    await daemon.ok('tag', 'image', 'localhost/trigger:1');
    const lines = [
      'FROM localhost/trigger:1 AS one',
      'RUN test "$(cat /triggered)" = triggered',
      'FROM one',
      'RUN test "$(wc -l < /triggered)" = 1',
    ];
    // For a stage its own name is no stage, also in a trigger.
    await built({}, lines, '--build-context', `one=${base}`);
    await daemon.ok('rmi', 'localhost/trigger:1');
  });

  it('ADD brings what a repository has at a branch, a tag or a commit, and a build may stand on one', async () => {
    const work = daemon.path('repository');
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', work, '-c', 'user.name=x', '-c', 'user.email=x@y', ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    mkdirSync(join(work, 'sub/deep'), { recursive: true });
    git('init', '-q', '-b', 'main');
    const dockerfile = `FROM ${base}\nCOPY file /of-the-context\nRUN test "$(cat /of-the-context)" = second\n`;
    writeFiles(join(work, 'sub'), { file: 'first', Dockerfile: dockerfile });
    // Were it taken for whose machine this is, git would run it.
    const attack = `[core]\n\tfsmonitor = touch ${daemon.path('attacked')}; false\n`;
    writeFiles(work, { '.gitconfig': attack, 'sub/deep/one': '1' });
    // Where submodules are looked for, in which git has files of its own.
    writeFiles(work, { '.gitmodules': '' });
    symlinkSync(daemon.folder, join(work, 'out'));
    for (const [name, target] of [
      ['Dockerfile', daemon.path('config.toml')],
      ['.dockerignore', '/dev/zero'],
    ] as const) {
      mkdirSync(join(work, 'linked', name), { recursive: true });
      writeFiles(join(work, 'linked', name), { Dockerfile: dockerfile });
      rmSync(join(work, 'linked', name, name), { force: true });
      symlinkSync(target, join(work, 'linked', name, name));
    }
    git('add', '-A');
    git('commit', '-qm', 'first');
    git('tag', '-a', '-m', 'v1', 'v1');
    const first = git('rev-parse', 'HEAD');
    writeFiles(work, { 'sub/file': 'second' });
    git('commit', '-qam', 'second');

    const server = await gitServer(daemon.folder);
    const url = `git://127.0.0.1:${(server.address() as AddressInfo).port}/repository`;
    try {
      await built({}, [
        `FROM ${base}`,
        `ADD ${url} /main`,
        `ADD --keep-git-dir=true --checksum=${first} ${url}#v1 /tag`,
        `ADD --checksum=${first} ${url}#${first}:sub/deep /deep/`,
        'RUN test "$(cat /main/sub/file) $(cat /tag/sub/file) $(cat /deep/one)" = "second first 1"',
        'RUN test ! -e /main/.git -a -e /tag/.git/HEAD -a -L /main/out',
      ]);
      for (const [source, why] of [
        [`${url}#nobody`, /git: .*#nobody: .*couldn't find remote ref nobody/],
        [`${url}#main:none`, /the repository has no directory "none"/],
        [`${url}#main:out`, /the repository has no directory "out"/],
        [`--checksum=${first} ${url}`, /it is at commit [0-9a-f]{40}, and --checksum=/],
        [`${url}#--upload-pack=x`, /"--upload-pack=x" is no branch, tag or commit/],
      ] as const) {
        const { code, stderr } = await build({}, [`FROM ${base}`, `ADD ${source} /x`]);
        assert.equal(code, 1);
        assert.match(stderr, why);
      }
      assert.equal((await daemon.berth('build', '-q', `${url}#main:sub`)).code, 0);
      assert.match((await daemon.berth('build', `${url}#v1:sub`)).stderr, /RUN test/);
      const away = await daemon.berth('build', '-f', '../out/config.toml', `${url}#main:sub`);
      assert.match(away.stderr, /leads out of the repository/);
      for (const name of ['Dockerfile', '.dockerignore']) {
        const { stderr } = await daemon.berth('build', `${url}#main:linked/${name}`);
        assert.match(stderr, /ignore" leads out of the repository|"Dockerfile" leads out of the repository/);
      }
      assert.ok(existsSync(join(work, '.git/HEAD')), 'repositories that links lead to are left alone');
      assert.ok(!existsSync(daemon.path('attacked')));
    } finally {
      server.close();
    }
  });

  it('ADD brings what a repository has that is reached by ssh, with the key that is lent and of hosts that are known', async () => {
    const work = daemon.path('by-ssh');
    mkdirSync(work);
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', work, '-c', 'user.name=x', '-c', 'user.email=x@y', ...args], { stdio: 'ignore' });
    git('init', '-q', '-b', 'main');
    writeFiles(work, { file: 'by ssh' });
    git('add', '-A');
    git('commit', '-qm', 'first');
    const home = daemon.path('home');
    mkdirSync(join(home, '.ssh'), { recursive: true });
    const server = await startSshServer(daemon.path('sshd'));
    const url = `${server.url}${work}`;
    writeFiles(context, {
      Dockerfile: [
        `FROM ${base}`,
        `ADD ${url}#main /there`,
        'RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" -a "$(cat /there/file)" = "by ssh"',
      ].join('\n'),
    });
    const buildAt = async (...args: string[]) => {
      const running = startBerth(daemon.socket, ['build', ...args, context], { HOME: home, TMPDIR: home });
      running.child.stdin.end();
      return await running.ended;
    };
    try {
      const lent = ['--ssh', `default=${server.key}`];
      assert.match((await buildAt()).stderr, /Host key verification failed.*; a repository that is .* needs an agent/);
      const unknown = await buildAt(...lent);
      assert.match(unknown.stderr, /No ED25519 host key is known.*; no known_hosts of whoever builds has the key/);
      writeFileSync(join(home, '.ssh/known_hosts'), server.knownHost);
      const { code, stderr } = await buildAt(...lent);
      assert.equal(code, 0, stderr);
      assert.deepEqual(readdirSync(home), ['.ssh'], 'the agent of the key has gone with the build');
      const other = readFileSync(`${server.key}.pub`, 'utf8');
      writeFileSync(join(home, '.ssh/known_hosts'), `${server.knownHost.split(' ')[0]} ${other}`);
      const changed = await buildAt('--no-cache', ...lent);
      assert.match(changed.stderr, /the host has another key than ~\/.ssh\/known_hosts says/);
      const attack = await build(
        {},
        [`FROM ${base}`, 'ADD ssh://-oProxyCommand=x/app /x'],
        '--ssh',
        `default=${server.key}`,
      );
      assert.match(attack.stderr, /a user, a host or a path of ssh cannot look like that/);
    } finally {
      await server.stop();
    }
  });

  it('ADD unpacks archives of the context, and takes files from URLs as they are', async () => {
    const archive = tar([
      { path: 'd/', type: 'dir', mode: 0o750, uid: 7, gid: 8 },
      { path: 'd/f', data: 'inside', uid: 7, gid: 8 },
    ]);
    const server = createServer((_, reply) =>
      reply.setHeader('last-modified', 'Thu, 01 Jan 2026 00:00:00 GMT').end('served'),
    );
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/some/file.txt`;
      const digest = 'sha256:' + createHash('sha256').update('served').digest('hex');
      const lines = [
        `FROM ${base}`,
        'ADD a.tar /unpacked',
        'ADD a.tar.xz a.tar.bz2 /more/',
        'RUN test "$(cat /more/d/f)" = inside -a ! -e /more/a.tar.xz',
        'COPY a.tar /copied.tar',
        'ADD dump.sql.gz /dumps/',
        'RUN test "$(zcat /dumps/dump.sql.gz)" = "select 1"',
        `ADD ${url} /remote/`,
        `ARG DIGEST=${digest}`,
        `ADD --checksum=$DIGEST --chown=9 ${url} /named`,
        'RUN test "$(cat /unpacked/d/f)" = inside -a "$(stat -c %u:%g:%a /unpacked/d)" = 7:8:750 -a -f /copied.tar',
        'RUN test "$(cat /remote/file.txt)" = served -a "$(stat -c %a:%Y /remote/file.txt)" = 600:1767225600 -a "$(stat -c %u /named)" = 9',
      ];
      const compressed = (program: string) => execFileSync(program, ['-c'], { input: archive });
      writeFiles(context, { 'a.tar': archive, 'a.tar.xz': compressed('xz'), 'a.tar.bz2': compressed('bzip2') });
      const damaged = Buffer.concat([Buffer.from('fd377a585a00', 'hex'), Buffer.alloc(100, 'x')]);
      writeFiles(context, { 'dump.sql.gz': gzipSync('select 1'), 'damaged.xz': damaged });
      await built({}, lines);
      const { code, stderr } = await build({}, [`FROM ${base}`, `ADD --checksum=sha256:${'0'.repeat(64)} ${url} /x`]);
      assert.deepEqual([code, /it has the digest .* and sha256:0{64} is asked for/.test(stderr)], [1, true], stderr);
      const unreadable = await build({}, [`FROM ${base}`, 'ADD damaged.xz /x/']);
      assert.match(
        unreadable.stderr,
        /its compressed data is damaged; .*COPY, or ADD --unpack=false, takes it as it is$/m,
      );
      const malformed = await build({}, [`FROM ${base}`, `ADD ${url}%zz /x`]);
      assert.match(malformed.stderr, /Dockerfile:2: .*has a % that no two hexadecimal digits follow/);
    } finally {
      server.close();
    }
  });

  it('.dockerignore leaves out, and keeps exceptions, but not the Dockerfile from the build', async () => {
    const files = {
      '.dockerignore': '# all but\n*\n!src\n**/*.o\n!src/keep.o\nDockerfile\n',
      'src/a.c': '',
      'src/a.o': '',
      'src/keep.o': '',
      secret: '',
    };
    await built(files, [
      `FROM ${base}`,
      'COPY . /c',
      'RUN test "$(cd /c && find . -type f | sort | tr "\\n" " ")" = "./src/a.c ./src/keep.o "',
    ]);
  });

  it('keeps permissions of the context, and links that lead out of it stay links to nowhere', async () => {
    writeFiles(context, { 'run.sh': '', out: '-> /etc/passwd', 'd/out': '-> ../../../../../etc/passwd' });
    chmodSync(join(context, 'run.sh'), 0o755);
    await built({}, [`FROM ${base}`, 'COPY run.sh d /x/', 'RUN test -x /x/run.sh -a -h /x/out']);
    const { code, stderr } = await build({}, [`FROM ${base}`, 'COPY out /y']);
    assert.equal(code, 1);
    assert.match(stderr, /Dockerfile:2: COPY out \/y: \/out is not in the context/);
  });

  it('the same files and SOURCE_DATE_EPOCH are the same image, to the last digest', async () => {
    const lines = [`FROM ${base}`, 'COPY a /x/', 'RUN echo b > /b; mkdir /dir', 'WORKDIR /made'];
    const idOf = async () => {
      const file = daemon.path('iid');
      await built({ a: 'A' }, lines, '--no-cache', '--build-arg', 'SOURCE_DATE_EPOCH=1700000000', '--iidfile', file);
      return readFileSync(file, 'utf8');
    };
    const first = await idOf();
    assert.match(first, /^sha256:[0-9a-f]{64}$/);
    assert.equal(await idOf(), first);
    assert.equal(
      await daemon.ok('run', '--rm', 'image', 'stat', '-c', '%Y', '/b', '/dir', '/made'),
      '1700000000\n'.repeat(3),
    );
  });

  it('builds a target, from stdin, without a context', async () => {
    const text = `FROM ${base} AS a\nENV WHICH=a\nFROM ${base} AS b\nRUN exit 1\n`;
    const { code, stderr } = await daemon.berthWith(text, 'build', '-t', 'image', '--target', 'a', '-');
    assert.equal(code, 0, stderr);
    assert.equal(await daemon.ok('run', '--rm', 'image', 'sh', '-c', 'echo $WHICH'), 'a\n');
  });

  for (const [what, lines, args, message] of [
    ['an unknown instruction', ['FROM scratch', 'RUM x'], [], /^berth: Dockerfile:2: RUM x: RUM is no instruction; /],
    ['an unknown stage', ['FROM scratch'], ['--target', 'x'], /no stage is called "x"/],
    [
      'a file that is not there',
      [`FROM ${base}`, 'COPY none /'],
      [],
      /Dockerfile:2: COPY none \/: \/none is not in the context; /,
    ],
    ['several files to what is no directory', [`FROM ${base}`, 'COPY Dockerfile a /x'], [], /copies 2 things to \/x/],
    [
      'a user that the image lacks',
      [`FROM ${base}`, 'COPY --chown=nobody-here a /x'],
      [],
      /the image has no user "nobody-here"/,
    ],
    [
      'a secret that is required',
      [`FROM ${base}`, 'RUN --mount=type=secret,id=s,required true'],
      [],
      /the secret s is required/,
    ],
    ['what is no platform', [`FROM ${base}`], ['--platform', 'linux/'], /"linux\/" is not a platform; platforms look/],
    ['a variable that must be given', [`FROM ${base}`, 'ENV x="${y:?give y}"'], [], /Dockerfile:2: .*: y: give y/],
    [
      'a directory where a file is',
      [`FROM ${base}`, 'COPY . /etc/passwd/'],
      [],
      /Dockerfile:2: COPY \. \/etc\/passwd\/: copy .*: /,
    ],
    [
      'a command that is not there',
      [`FROM ${base}`, 'RUN ["no-such-command"]'],
      [],
      /Dockerfile:2: .*"no-such-command": not found/,
    ],
  ] as const)
    it(`refuses ${what}, says where, and makes no image`, async () => {
      const before = await daemon.ok('images', '-q');
      const { code, stderr } = await build({ a: '' }, lines, '-q', ...args);
      assert.equal(code, 1);
      assert.match(stderr, message);
      assert.equal(await daemon.ok('images', '-q'), before);
    });

  it('a build that is broken off leaves no container, and the next one goes on with the steps that were done', async () => {
    writeFiles(context, { Dockerfile: `FROM ${base}\nRUN echo done > /done\nRUN echo waiting; sleep 1000\n` });
    const running = daemon.start('build', '--progress', 'plain', context);
    while (!running.stderr.includes('#3 waiting')) await once(running.child.stderr, 'data');
    running.child.kill('SIGINT');
    await running.ended;
    await daemon.eventually('the container is gone', () => daemon.leftovers([]).length === 0);
    const output = await built({}, [`FROM ${base}`, 'RUN echo done > /done', 'RUN true']);
    assert.match(output, /#2 CACHED/);
  });

  it('stages that do not need each other are built side by side', async () => {
    // Each waits for the other, by a cache mount that both have.
    const half = (own: string, other: string) =>
      `RUN --mount=type=cache,target=/m,id=meeting touch /m/${own}; n=0; while [ ! -e /m/${other} ]; do sleep 0.1; n=$((n+1)); [ $n -lt 600 ] || exit 1; done; touch /${own}`;
    await built({}, [
      ...[`FROM ${base} AS a`, half('a', 'b'), `FROM ${base} AS b`, half('b', 'a')],
      ...[`FROM ${base}`, 'COPY --from=a /a /', 'COPY --from=b /b /'],
    ]);
  });
});

/** Serves the repositories below `dir`: a git for each connection, which has it as its stdio. */
async function gitServer(dir: string): Promise<Server> {
  const args = ['daemon', '--inetd', '--export-all', `--base-path=${dir}`, dir];
  const server = createTcpServer({ pauseOnConnect: true }, socket => {
    spawn('git', args, { stdio: [socket, socket, 'ignore'] }).once('exit', () => socket.destroy());
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return server;
}
