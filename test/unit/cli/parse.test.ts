import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { BerthError } from '../../../src/base/errors';
import { socketOf } from '../../../src/cli/client';
import { ownVersion } from '../../../src/cli/own-version';
import { parseEnv, parseEnvFile } from '../../../src/cli/parse/env';
import { parseCacheFrom, parseCacheTo } from '../../../src/cli/parse/build-cache';
import { parseContexts } from '../../../src/cli/parse/build-flags';
import { parseLabels } from '../../../src/cli/parse/labels';
import { parseMount, sharedLabels } from '../../../src/cli/parse/mount';
import { parsePublish } from '../../../src/cli/parse/publish';
import { parseSeconds, parseTail } from '../../../src/cli/parse/numbers';
import { parseSince } from '../../../src/cli/parse/since';
import { parseUlimit } from '../../../src/cli/parse/ulimit';

const refused = (message: RegExp) => (error: unknown) =>
  error instanceof BerthError && error.kind === 'invalid_argument' && message.test(error.message);

describe('-e and --env-file', () => {
  const here = new Map([['HERE', Buffer.from([0xfe])]]);

  it('keep every byte of a value, and all but the first equals sign', () => {
    const lines = Buffer.concat([Buffer.from('A=b=c\nB='), Buffer.from([0xff, 0x20]), Buffer.from('\n')]);
    assert.deepEqual(parseEnvFile('f', lines, here), [
      { key: 'A', value: Buffer.from('b=c') },
      { key: 'B', value: Buffer.from([0xff, 0x20]) },
    ]);
  });

  it('skip comments and empty lines, and take files from other systems', () => {
    const lines = Buffer.from('\ufeffA=1\r\n\r\n# B=2\r\n  C="3"');
    assert.deepEqual(parseEnvFile('f', lines, here), [
      { key: 'A', value: Buffer.from('1') },
      { key: 'C', value: Buffer.from('"3"') },
    ]);
  });

  it('hand on a variable that is set here, in bytes, and leave out one that is not', () => {
    assert.deepEqual(parseEnv(['HERE', 'NOT', 'EMPTY='], [], here), [
      { key: 'HERE', value: Buffer.from([0xfe]) },
      { key: 'EMPTY', value: Buffer.alloc(0) },
    ]);
  });

  it('refuse a name that is none, naming the line', () => {
    assert.throws(() => parseEnv(['=x'], [], here), refused(/^-e =x is not a variable: its name is empty/));
    assert.throws(() => parseEnvFile('f', Buffer.from('A=1\nexport B=2'), here), refused(/^f:2 .*"export B"/));
    assert.throws(() => parseEnv([], ['/nowhere/f'], here), refused(/^--env-file \/nowhere\/f cannot be read: ENOENT/));
  });
});

describe('--ulimit', () => {
  it('takes one number for both, two, and none', () => {
    assert.deepEqual(parseUlimit('nofile=1024:4096'), { name: 'nofile', soft: 1024n, hard: 4096n });
    assert.deepEqual(parseUlimit('core=0'), { name: 'core', soft: 0n, hard: 0n });
    assert.deepEqual(parseUlimit('memlock=-1'), { name: 'memlock', soft: -1n, hard: -1n });
    assert.deepEqual(parseUlimit('stack=65536:unlimited'), { name: 'stack', soft: 65536n, hard: -1n });
  });

  it('says what is wrong', () => {
    assert.throws(
      () => parseUlimit('nofile'),
      refused(/"nofile": it is not NAME=SOFT\[:HARD\]; write nofile=1024:4096/),
    );
    assert.throws(() => parseUlimit('files=1'), refused(/files is not known; there are cpu, .*nofile/));
    for (const text of ['nofile=2:1', 'nofile=-1:5', 'nofile=', 'nofile=1:2:3', 'nofile=-2'])
      assert.throws(() => parseUlimit(text), refused(/the soft one not above the hard one/), text);
  });
});

describe('-v', () => {
  it('takes absolute paths, paths from here, and names of volumes', () => {
    assert.deepEqual(parseMount('data:/b'), {
      source: '',
      volume: 'data',
      target: '/b',
      readonly: false,
      propagation: '',
      relabel: false,
      noCopy: false,
    });
    assert.equal(parseMount('data:/b:nocopy,ro').noCopy, true);
    const plain = { volume: '', propagation: '', readonly: false, relabel: false, noCopy: false };
    assert.deepEqual(parseMount('/a:/b'), { ...plain, source: '/a', target: '/b' });
    assert.deepEqual(parseMount('/a:/b:ro'), { ...plain, source: '/a', target: '/b', readonly: true });
    assert.deepEqual(parseMount('.:/b:rw'), { ...plain, source: resolve('.'), target: '/b' });
    assert.deepEqual(parseMount('/a:/b:ro,rslave').propagation, 'rslave');
    assert.deepEqual(parseMount('/a:/b:ro,Z'), { ...plain, source: '/a', target: '/b', readonly: true, relabel: true });
    assert.deepEqual(parseMount('a/b:/b').source, resolve('a/b'));
    assert.deepEqual(sharedLabels(['/a:/b:ro,z', '/a:/c:Z', 'z:/d', '/a:/e:z']), ['/b', '/e']);
  });

  it('says what is wrong, of what', () => {
    assert.throws(() => parseMount('/a'), refused(/^-v \/a: it is not SOURCE:TARGET/));
    assert.throws(() => parseMount('/a:/b:ro:x'), refused(/it is not SOURCE:TARGET/));
    assert.throws(() => parseMount('/a:b'), refused(/"b", is not absolute/));
    assert.throws(() => parseMount('/a:/b:y'), refused(/"y" is not known; it is ro, rw or a propagation/));
    assert.throws(() => parseMount('/a:/b:nocopy'), refused(/"nocopy" is for volumes; only an empty volume takes/));
  });
});

describe('-p', () => {
  const port = (hostIp: string, hostPort: number, containerPort: number, protocol = 'tcp') => ({
    hostIp,
    hostPort,
    containerPort,
    protocol,
  });

  it('takes what docker takes', () => {
    assert.deepEqual(parsePublish('80'), [port('', 0, 80)]);
    assert.deepEqual(parsePublish('8080:80'), [port('', 8080, 80)]);
    assert.deepEqual(parsePublish('53:53/udp'), [port('', 53, 53, 'udp')]);
    assert.deepEqual(parsePublish('127.0.0.1:8080:80'), [port('127.0.0.1', 8080, 80)]);
    assert.deepEqual(parsePublish('127.0.0.1::80'), [port('127.0.0.1', 0, 80)]);
    assert.deepEqual(parsePublish('[2001:db8::1]:8080:80/sctp'), [port('2001:db8::1', 8080, 80, 'sctp')]);
    assert.deepEqual(parsePublish('8000-8001:80-81'), [port('', 8000, 80), port('', 8001, 81)]);
  });

  it('says what is wrong, of what', () => {
    assert.throws(() => parsePublish(''), refused(/^-p : it is not/));
    assert.throws(() => parsePublish('80/icmp'), refused(/the protocol "icmp" is none of tcp, udp, sctp/));
    assert.throws(() => parsePublish('8080:0'), refused(/"0" is not a port from 1 to 65535/));
    assert.throws(() => parsePublish('8080:80a'), refused(/"80a" is not a port/));
    assert.throws(() => parsePublish('host:8080:80'), refused(/"host" is not an IP address/));
    assert.throws(() => parsePublish('8000-8002:80-81'), refused(/3 ports of the host cannot lead to 2/));
  });
});

describe('--label, --tail, -t', () => {
  it('are taken as docker takes them', () => {
    assert.deepEqual(parseLabels(['a=1', 'b', 'c=x=y', 'a=2']), { a: '2', b: '', c: 'x=y' });
    assert.equal(parseTail('all'), undefined);
    assert.equal(parseTail('0'), 0n);
    assert.equal(parseSeconds('-t', '30'), 30n);
  });

  it('are refused otherwise', () => {
    assert.throws(() => parseLabels(['=x']), refused(/--label =x/));
    assert.throws(() => parseTail('-1'), refused(/--tail "-1" is not a number of lines/));
    assert.throws(() => parseSeconds('-t', '1.5'), refused(/"1.5" is not a number of seconds/));
    assert.throws(
      () => parseSeconds('--stop-timeout', '-1'),
      refused(/--stop-timeout "-1" is not a number of seconds/),
    );
  });

  it('of images under other names have both', () => {
    assert.deepEqual(parseContexts(['a=b:1', 'c=d=e']), { a: 'b:1', c: 'd=e' });
    for (const text of ['a', 'a=', '=b'])
      assert.throws(() => parseContexts([text]), refused(/--build-context .*NAME=IMAGE/));
  });
});

describe('--cache-from and --cache-to', () => {
  it('are references, or say what they are', () => {
    const places = parseCacheFrom([
      'a/b:1',
      'a,b',
      'type=registry,ref=c',
      'type=local,src=/d',
      'type=local,src=e,tag=f',
    ]);
    assert.deepEqual(places, [
      ...['a/b:1', 'a', 'b', 'c'].map(reference => ({ reference })),
      { directory: { path: '/d', tag: 'latest' } },
      { directory: { path: resolve('e'), tag: 'f' } },
    ]);
    const digest = `sha256:${'0'.repeat(64)}`;
    assert.deepEqual(parseCacheFrom([`type=local,src=/d,digest=${digest}`]), [
      { directory: { path: '/d', tag: digest } },
    ]);
    const { cacheTo, cacheInline } = parseCacheTo(
      [
        'a/b:1',
        'type=registry,ref=a,mode=max,ignore-error=true,image-manifest=true,oci-mediatypes=true,compression=gzip',
        'type=local,dest=/d,mode=min,ignore-error=false',
      ],
      {},
    );
    const [short, long, local] = cacheTo;
    assert.deepEqual([cacheTo.length, cacheInline], [3, false]);
    assert.deepEqual(parseCacheTo(['type=inline'], {}), { cacheTo: [], cacheInline: true });
    assert.deepEqual(parseCacheTo([], { BUILDKIT_INLINE_CACHE: '1' }), { cacheTo: [], cacheInline: true });
    assert.deepEqual(short, { place: { reference: 'a/b:1' }, allStages: false, ignoreErrors: false });
    assert.deepEqual(long, { place: { reference: 'a' }, allStages: true, ignoreErrors: true });
    const place = { directory: { path: '/d', tag: 'latest' } };
    assert.deepEqual(local, { place, allStages: false, ignoreErrors: false });
  });

  it('refuse what they do not know, or what is missing', () => {
    const cases: [parse: typeof parseCacheFrom | typeof parseCacheTo, text: string, why: RegExp][] = [
      [parseCacheFrom, 'type=local,src=x,digest=sha256:zz', /: sha256:zz is not a digest; it looks like/],
      [parseCacheFrom, 'type=gha', /--cache-from type=gha: the type gha is not known; it is/],
      [parseCacheFrom, 'type=registry', /needs ref=/],
      [parseCacheFrom, 'type=local,dest=/d', /dest is not known; it takes type, ref, src/],
      [parseCacheFrom, 'type=local,src=', /needs src=/],
      [parseCacheTo, 'type=gha', /the type gha is not known; it is registry, local or inline/],
      [parseCacheTo, 'type=inline,mode=max', /the type inline is not known/],
      [parseCacheTo, 'type=registry,ref=a,mode=all', /mode is all; it is min or max/],
      [parseCacheTo, 'type=registry,ref=a,ignore-error', /ignore-error is not known/],
      [parseCacheTo, 'type=registry,ref=a,image-manifest=false', /image-manifest is false; it is true/],
      [parseCacheTo, 'type=registry,ref=a,compression=zstd', /compression is zstd; it is gzip/],
    ];
    for (const [parse, text, why] of cases) assert.throws(() => parse([text], {}), refused(why), text);
  });
});

describe('--since', () => {
  const now = 1_700_000_000_000_000_000n;
  const second = 1_000_000_000n;

  it('takes durations before now', () => {
    assert.equal(parseSince('90s', now), now - 90n * second);
    assert.equal(parseSince('1h30m', now), now - 5400n * second);
    assert.equal(parseSince('1.5s', now), now - 1_500_000_000n);
    assert.equal(parseSince('20ms', now), now - 20_000_000n);
  });

  it('takes seconds since 1970 and dates, to the nanosecond', () => {
    assert.equal(parseSince('1700000000', now), now);
    assert.equal(parseSince('1700000000.000000001', now), now + 1n);
    assert.equal(parseSince('2023-11-14T22:13:20.000000007Z', now), now + 7n);
    assert.equal(parseSince('2023-11-15T00:13:20+02:00', now), now);
    assert.equal(parseSince('2023-11-14', now), BigInt(new Date(2023, 10, 14).getTime()) * 1_000_000n);
  });

  it('refuses the rest', () => {
    for (const text of ['', 'yesterday', '10 m', '2023-13-40', 'm']) {
      assert.throws(() => parseSince(text, now), refused(/is not a time; write 10m/), text);
    }
  });
});

describe('--host', () => {
  it('is a socket, with or without the scheme', () => {
    assert.equal(socketOf('unix:///run/berth/berth.sock'), '/run/berth/berth.sock');
    assert.equal(socketOf('unix:/run/b.sock'), '/run/b.sock');
    assert.equal(socketOf('/run/b.sock'), '/run/b.sock');
    assert.throws(() => socketOf('unix://run/b.sock'), refused(/is not a unix socket/));
    assert.throws(() => socketOf('tcp://10.0.0.1:1'), refused(/is not a unix socket/));
  });
});

describe('the version of the command line', () => {
  it("is the project's", () => {
    const project = JSON.parse(readFileSync(resolve('package.json'), 'utf8')) as { version: string };
    assert.equal(ownVersion, project.version);
  });
});
