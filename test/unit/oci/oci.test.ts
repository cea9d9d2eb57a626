import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { ContainerConfig, Signal } from '../../../src/cri';
import { CAPABILITIES, capabilityMask, capabilitySets, DEFAULT_CAPABILITIES } from '../../../src/oci/capabilities';
import { containerSpec, type ImageDefaults, type PodFacts } from '../../../src/oci/container-spec';
import { NO_CDI } from '../../../src/oci/cdi/edits';
import type { HostFacts } from '../../../src/oci/host-facts';
import { execPlan, launchPlan } from '../../../src/oci/launch-plan';
import { withLabels } from '../../../src/oci/labels';
import { withRunOptions } from '../../../src/oci/run-options';
import { RunOptions } from '../../../src/cri/generated/berth/v1/run';
import { bundleJson } from '../../../src/oci/oci-json';
import { MASKED_PATHS } from '../../../src/oci/masked-paths';
import { criSignalOf, numberOfCriSignal, signalName, signalNumber } from '../../../src/oci/signals';
import { parseUser } from '../../../src/oci/user';
import { encodePlan } from '../../../src/native/plan';
import { repoRoot } from '../../support/repo';

describe('parseUser', () => {
  it('takes what an image’s USER may be', () => {
    const table: [string, string, string][] = [
      ['', '0', ''],
      ['0', '0', ''],
      ['007', '7', ''],
      ['user', 'user', ''],
      ['user:', 'user', ''],
      ['user:group', 'user', 'group'],
      ['1000:2000', '1000', '2000'],
      ['4294967294', '4294967294', ''],
      ['www-data', 'www-data', ''],
      ['a.b_c$', 'a.b_c$', ''],
    ];
    for (const [text, user, group] of table) assert.deepEqual(parseUser(text), { user, group }, text);
  });

  it('refuses everything else', () => {
    const long = 'x'.repeat(256);
    for (const text of [
      ':0',
      '0:0:0',
      '-1',
      '+1',
      ' 0',
      '0 ',
      '4294967295',
      '4294967296',
      '0:4294967295',
      '9'.repeat(30),
      'a b',
      'a\nb',
      'a,b',
      '\u007f',
      long,
    ]) {
      assert.throws(() => parseUser(text), /neither a name|is not between/, JSON.stringify(text));
    }
  });

  it('makes of digits the number that they are, and of nothing else a number', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 32n - 2n), fc.nat(5), (id, zeros) => {
        assert.deepEqual(parseUser('0'.repeat(zeros) + String(id)).user, String(id));
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme-ascii', maxLength: 12 }), text => {
        let user: string;
        try {
          ({ user } = parseUser(text));
        } catch {
          return;
        }
        if (/^\d+$/.test(user)) assert.ok(text === '' || /^\d+:?/.test(text), text);
      }),
    );
  });
});

describe('signals', () => {
  it('of the CRI are mapped by name, all of them, there and back', () => {
    const proto = readFileSync(join(repoRoot, 'proto/runtime/v1/api.proto'), 'utf8');
    const entries = [...proto.matchAll(/^\s*SIGNAL_(\w+)\s*=\s*(\d+);/gm)].filter(
      ([, name]) => name !== 'RUNTIME_DEFAULT',
    );
    assert.ok(entries.length > 60);
    for (const [, name = '', value] of entries) {
      const signal = Number(value) as Signal;
      const number = numberOfCriSignal(signal) ?? assert.fail(name);
      const realtime = /^SIGRT(MIN|MAX)(?:(PLUS|MINUS)(\d+))?$/.exec(name);
      const known: Record<string, number> = constants.signals;
      const expected = realtime
        ? (realtime[1] === 'MIN' ? 34 : 64) + Number(realtime[3] ?? 0) * (realtime[2] === 'MINUS' ? -1 : 1)
        : known[name];
      if (expected !== undefined) assert.equal(number, expected, name);
      assert.equal(numberOfCriSignal(criSignalOf(number)), number, name);
    }
    assert.equal(numberOfCriSignal(Signal.SIGNAL_SIGTERM), 15);
    assert.equal(numberOfCriSignal(Signal.SIGNAL_SIGKILL), 9);
    assert.equal(numberOfCriSignal(Signal.SIGNAL_RUNTIME_DEFAULT), undefined);
  });

  it('may be written in many ways', () => {
    const table = {
      SIGTERM: 15,
      term: 15,
      '15': 15,
      ' SIGINT ': 2,
      SIGRTMIN: 34,
      'RTMIN+3': 37,
      'SIGRTMAX-1': 63,
      SIGPOLL: 29,
    };
    for (const [text, number] of Object.entries(table)) assert.equal(signalNumber(text), number, text);
    for (const text of ['', '0', '65', '-9', 'SIGFOO', 'SIGRTMIN+31', 'SIGRTMAX+1', '9x', '1e1']) {
      assert.equal(signalNumber(text), undefined, text);
    }
    assert.equal(signalName(15), 'SIGTERM');
    assert.equal(signalName(40), 'signal 40');
  });
});

describe('capabilities', () => {
  it('have the numbers of the kernel', () => {
    const header = readFileSync('/usr/include/linux/capability.h', 'utf8');
    const numbers = [...header.matchAll(/^#define CAP_(\w+)\s+(\d+)$/gm)].map(
      ([, name = '', n]) => [name, Number(n)] as const,
    );
    assert.ok(numbers.length >= 41);
    for (const [name, number] of numbers) assert.equal(CAPABILITIES.indexOf(name), number, name);
  });

  it('are these fourteen by default', () => {
    assert.equal(capabilityMask(DEFAULT_CAPABILITIES), 0xa80425fbn);
  });

  it('follow add, drop and ALL', () => {
    const kept = (add: string[], drop: string[], privileged = false) =>
      capabilitySets({ add, drop, ambient: [] }, privileged).effective;
    assert.deepEqual(kept([], ['ALL']), []);
    assert.deepEqual(kept(['cap_chown'], ['all']), ['CHOWN']);
    assert.deepEqual(kept(['ALL'], []), CAPABILITIES);
    assert.deepEqual(
      kept(['ALL'], ['CAP_SYS_ADMIN']),
      CAPABILITIES.filter(name => name !== 'SYS_ADMIN'),
    );
    assert.deepEqual(kept([], ['ALL'], true), CAPABILITIES);
    assert.ok(!kept([], ['NET_RAW']).includes('NET_RAW'));
    assert.throws(() => kept(['FLY'], []), /unknown capability "FLY"/);
  });

  it('never have any to inherit that are not ambient', () => {
    const names = fc.array(fc.constantFrom(...CAPABILITIES, 'ALL'), { maxLength: 6 });
    fc.assert(
      fc.property(names, names, fc.boolean(), (add, drop, privileged) => {
        const sets = capabilitySets({ add, drop, ambient: [] }, privileged);
        assert.deepEqual([sets.inheritable, sets.ambient], [[], []]);
        assert.deepEqual(sets.bounding, sets.effective);
      }),
    );
  });
});

const image: ImageDefaults = {
  env: ['PATH=/bin', 'A=image', 'EQ=a=b'],
  entrypoint: ['/entry'],
  cmd: ['cmd'],
  workingDir: '',
  user: '',
};
const pod: PodFacts = {
  hostname: 'host',
  networkPath: '/ns/net',
  ipcPath: '/ns/ipc',
  utsPath: '/ns/uts',
  pidPath: '/ns/pid',
  hostPid: false,
  shmPath: '/shm',
  files: { '/etc/hosts': '/pod/hosts' },
  makeMountSources: true,
  cgroupPath: '/berth/x',
};
const host: HostFacts = {
  devices: [],
  cdi: NO_CDI,
  everyDevice: [],
  cgroups: { isUnified: true, v1: [] },
  thermalPaths: [],
  imageLowers: new Map(),
  anonymousVolumes: [],
  selinux: undefined,
};
/** A request with these fields; what is not named has its default. */
const spec = (partial: object, defaults = image) =>
  containerSpec(
    ContainerConfig.fromPartial({ metadata: { name: 'c', attempt: 0 }, ...partial } as never),
    defaults,
    pod,
    host,
  );

describe('the spec of a container', () => {
  it('merges the environment by key: image, then request, bytes kept', () => {
    const { env } = spec({
      envs: [
        { key: 'A', value: Buffer.from([0xff, 0x3d]) },
        { key: 'NEW', value: Buffer.from('') },
      ],
    }).process;
    assert.deepEqual(env.map(entry => entry.toString('latin1')).sort(), [
      'A=\xff=',
      'EQ=a=b',
      'HOSTNAME=host',
      'NEW=',
      'PATH=/bin',
    ]);
  });

  it('has every key once, with the last value, whatever is asked for', () => {
    const key = fc.constantFrom('A', 'B', 'PATH', 'HOSTNAME', 'é');
    const value = fc.uint8Array({ maxLength: 8 }).map(bytes => Buffer.from(bytes.filter(byte => byte !== 0)));
    fc.assert(
      fc.property(fc.array(fc.record({ key, value }), { maxLength: 10 }), envs => {
        const { env } = spec({ envs }).process;
        const keys = env.map(entry => entry.toString().split('=')[0]);
        assert.equal(new Set(keys).size, keys.length);
        for (const last of new Map(envs.map(entry => [entry.key, entry])).values()) {
          const line = Buffer.concat([Buffer.from(`${last.key}=`), last.value]);
          assert.ok(env.some(entry => entry.equals(line)));
        }
      }),
    );
  });

  it('refuses keys and values that no environment can hold', () => {
    for (const [key, value] of [
      ['', 'x'],
      ['A=B', 'x'],
      ['A\0', 'x'],
      ['A', 'x\0'],
    ] as const) {
      assert.throws(() => spec({ envs: [{ key, value: Buffer.from(value) }] }), /environment variable/);
    }
  });

  it('combines command and args with entrypoint and cmd', () => {
    assert.deepEqual(spec({}).process.args, ['/entry', 'cmd']);
    assert.deepEqual(spec({ args: ['x'] }).process.args, ['/entry', 'x']);
    assert.deepEqual(spec({ command: ['k'] }).process.args, ['k']);
    assert.deepEqual(spec({ command: ['k'], args: ['x'] }).process.args, ['k', 'x']);
    assert.throws(() => spec({}, { ...image, entrypoint: [], cmd: [] }), /no command/);
  });

  it('masks by default, what the request says otherwise, nothing when privileged', () => {
    const masked = (securityContext: object) => spec({ linux: { securityContext } }).linux.maskedPaths;
    assert.deepEqual(masked({}), [...MASKED_PATHS]);
    assert.deepEqual(masked({ maskedPaths: ['/x'] }), ['/x']);
    assert.deepEqual(masked({ privileged: true }), []);
    for (const path of [
      '/proc/kcore',
      '/proc/keys',
      '/proc/timer_list',
      '/proc/scsi',
      '/proc/interrupts',
      '/sys/firmware',
      '/sys/devices/virtual/powercap',
    ]) {
      assert.ok(MASKED_PATHS.includes(path), path);
    }
  });

  it('puts mounts of parents before those of children, and a mount of the request in place of a pod’s file', () => {
    const mounts = ['/a/b/c', '/a', '/etc/hosts', '/a/b'].map(containerPath => ({ containerPath, hostPath: '/h' }));
    const binds = spec({ mounts }).mounts.filter(mount => mount.type === 'bind' && mount.source !== '/shm');
    assert.deepEqual(
      binds.map(({ destination }) => destination),
      ['/a', '/etc/hosts', '/a/b', '/a/b/c'],
    );
    assert.equal(binds[1]?.source, '/h');
  });

  it('refuses what is not built with a sentence', () => {
    for (const partial of [{ windows: {} }]) {
      assert.throws(() => spec(partial), /this version of berth does not support \w+/);
    }
  });
});

describe('the launch plan', () => {
  const rootfs = { lowers: ['/l2', '/l1'], upper: '/u', work: '/w', stage: '/s', isVolatile: true };
  const placement = { v2Directory: '/cg/v2', v1Tasks: ['/cg/v1/tasks'], killFile: '/cg/v2/cgroup.kill' };
  const plan = launchPlan(
    spec({ linux: { securityContext: { noNewPrivs: true, readonlyRootfs: true } } }),
    rootfs,
    placement,
    { path: '/log', maxLineBytes: 0 },
    false,
  );
  const order = plan.inner.map(({ op }) => op);
  const before = (a: string, b: string) =>
    assert.ok(
      order.lastIndexOf(a as never) >= 0 && order.lastIndexOf(a as never) < order.indexOf(b as never),
      `${a} before ${b}: ${order.join(' ')}`,
    );

  it('gives up privileges after everything that needs them, and executes last', () => {
    before('ROOT_OVERLAY', 'MOUNT_FS');
    before('MASK', 'PIVOT_ROOT');
    before('ROOT_READONLY', 'PIVOT_ROOT');
    before('PIVOT_ROOT', 'LOOKUP_USER');
    before('AWAIT_GO', 'IDENTITY');
    before('IDENTITY', 'NO_NEW_PRIVS');
    assert.equal(order.at(-1), 'EXEC');
    assert.equal(order.filter(op => op === 'EXEC').length, 1);
  });

  it('loads a filter while it still may, and as late as it can', () => {
    const filter = { program: Buffer.alloc(8), flags: 4 };
    const last = (noNewPrivs: boolean) => {
      const of = spec({ linux: { securityContext: { noNewPrivs } } });
      of.process.apparmorProfile = 'a';
      return [
        launchPlan(of, rootfs, placement, undefined, false, filter),
        execPlan(of.process, placement, false, filter),
      ].map(({ inner }) => inner.map(({ op }) => op).slice(-5));
    };
    const privileged = ['EXEC_LABEL', 'IDENTITY', 'SECCOMP', 'CAPABILITIES', 'EXEC'];
    assert.deepEqual(last(false), [privileged, privileged]);
    const plain = ['IDENTITY', 'CAPABILITIES', 'NO_NEW_PRIVS', 'SECCOMP', 'EXEC'];
    assert.deepEqual(last(true), [plain, plain]);
  });

  it('labels all that is made for a container before the container can see it', () => {
    const of = spec({ mounts: [{ containerPath: '/data', hostPath: '/volumes/data' }] });
    const label = 'u:object_r:f_t:s0:c1,c2';
    const labels = { process: 'u:r:p_t:s0:c1,c2', file: label, podFile: 'u:object_r:f_t:s0:c3' };
    withLabels(of, labels, path => path.startsWith('/volumes/'));
    const { inner } = launchPlan(of, rootfs, placement, undefined, false);
    const ops = inner.map(({ op }) => op);
    assert.ok(ops.indexOf('ROOT_LABEL') < ops.findIndex(op => op.startsWith('HOLD_')), ops.join(' '));
    const contexts = inner.flatMap(op => {
      if (op.op === 'MOUNT_FS') return op.options.filter(option => option.includes('=u:')).map(o => [op.target, o]);
      return op.op === 'QUEUE_LABEL' ? [['queues', op.label]] : op.op === 'RELABEL' ? [[op.target, op.label]] : [];
    });
    assert.deepEqual(contexts, [
      ['queues', labels.podFile],
      ['/dev', `context=${label}`],
      ['/dev/pts', `context=${label}`],
      ['/data', 'u:object_r:f_t:s0'],
    ]);
    const keyring = [inner, execPlan(of.process, placement, false).outer].map(
      list => list.find(({ op }) => op === 'KEYRING') as { label: string } | undefined,
    );
    assert.deepEqual(
      keyring.map(op => op?.label),
      [labels.process, labels.process],
    );
    // An OCI runtime labels the file systems itself.
    const json = JSON.parse(bundleJson(of, '/r', { uid: 0, gid: 0, groups: [], home: '/' }, {})) as {
      linux: { mountLabel: string };
    };
    assert.equal(json.linux.mountLabel, label);
    assert.ok(!JSON.stringify(json).includes('context='));
  });

  it('labels a mount that a person shares for all, and others for its container alone', () => {
    const mount = (containerPath: string) => ({ containerPath, hostPath: '/x', selinuxRelabel: true });
    const file = 'u:object_r:f_t:s0:c1,c2';
    const config = ContainerConfig.fromPartial({ command: ['x'], mounts: [mount('/all'), mount('/own')] } as never);
    const of = containerSpec(config, image, pod, { ...host, selinux: { file, podFile: file } });
    withRunOptions(of, RunOptions.fromPartial({ sharedLabels: ['/all/', '/none'] }));
    const labels = new Map(of.mounts.map(({ destination, relabel }) => [destination, relabel]));
    assert.deepEqual([labels.get('/all'), labels.get('/own')], ['u:object_r:f_t:s0', file]);
  });

  it('makes the new mount namespace a slave of the host’s before anything is mounted', () => {
    before('PROPAGATION', 'ROOT_OVERLAY');
  });

  it('reaches the standard mounts through real directories only', () => {
    for (const op of plan.inner) {
      if (op.op === 'MOUNT_FS') assert.equal(op.flags & 1, 1, String(op.target));
    }
  });

  it('looks a command without slash up in the PATH of the process', () => {
    const exec = (args: string[], path: string) => {
      const { process } = spec({ command: args, envs: [{ key: 'PATH', value: Buffer.from(path) }] });
      const op = execPlan(process, placement, true).inner.at(-1);
      return op?.op === 'EXEC' ? op.candidates : assert.fail('no EXEC');
    };
    assert.deepEqual(exec(['foo'], '/a:/b'), ['/a/foo', '/b/foo']);
    assert.deepEqual(exec(['foo'], '/a::'), ['/a/foo', './foo', './foo']);
    assert.deepEqual(exec(['./foo'], '/a'), ['./foo']);
    assert.deepEqual(exec(['/x/foo'], '/a'), ['/x/foo']);
  });

  it('can be encoded, and an argument with a NUL cannot', () => {
    assert.ok(encodePlan(plan).length > 500);
    const bad = launchPlan(spec({ command: ['a\0b'] }), rootfs, placement, undefined, false);
    assert.throws(() => encodePlan(bad), /NUL/);
  });
});
