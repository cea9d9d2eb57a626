import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BerthError } from '../../../src/base/errors';
import { type ConfigFlags, loadConfig } from '../../../src/config';
import { tempFolder } from '../../support/temp';

describe('loadConfig', () => {
  const temp = tempFolder();
  const load = (text: string) => loadConfig({ file: temp.write('config.toml', text) });
  const complaint = (flags: ConfigFlags) => {
    try {
      loadConfig(flags);
    } catch (error) {
      assert(error instanceof BerthError);
      assert.equal(error.kind, 'invalid_argument');
      return error.message;
    }
    return assert.fail('the configuration was accepted');
  };
  /** The message about config.toml with this text, without the name of the folder. */
  const complaintAbout = (text: string) => {
    const message = complaint({ file: temp.write('config.toml', text) });
    return message.replaceAll(temp.path('config.toml'), 'FILE');
  };

  it('has a default for every key', () => {
    assert.deepEqual(load(''), {
      root: '/var/lib/berth',
      state: '/run/berth',
      log: { level: 'info', format: 'text' },
      registry: {
        hostsDir: '/etc/berth/certs.d',
        dockerConfig: 'auto',
        credentialHelperDirs: ['/usr/local/bin', '/usr/bin', '/usr/local/sbin', '/usr/sbin', '/bin'],
        progressTimeoutSeconds: 60,
        plainHttp: [],
        maxConcurrentDownloads: 3,
        allowForeignLayers: false,
        keepLayerBlobs: false,
      },
      metrics: { address: '' },
      tracing: { endpoint: '', samplesPerMillion: 1_000_000 },
      streaming: {
        address: '127.0.0.1',
        port: 0,
        idleTimeoutSeconds: 14400,
        creationTimeoutSeconds: 30,
        tlsCertFile: '',
        tlsKeyFile: '',
      },
      cdi: { specDirs: ['/etc/cdi', '/var/run/cdi'] },
      network: {
        cniConfigDir: '/etc/cni/net.d',
        cniBinDirs: ['/opt/cni/bin', '/usr/lib/cni'],
        cniTimeoutSeconds: 60,
        embedded: 'people',
        bridge: '',
        ranges: [],
        masquerade: true,
        mtu: 0,
      },
      runtimes: {},
      runtime: {
        cgroupDriver: 'auto',
        logLineBytes: 16384,
        pidsLimit: 0,
        podPidsLimit: 0,
        rlimits: {
          as: 'unlimited',
          core: 'unlimited',
          cpu: 'unlimited',
          data: 'unlimited',
          fsize: 'unlimited',
          locks: 'unlimited',
          memlock: '8388608',
          msgqueue: '819200',
          nice: '0',
          nofile: '65536:1048576',
          nproc: 'unlimited',
          rss: 'unlimited',
          rtprio: '0',
          rttime: 'unlimited',
          sigpending: 'unlimited',
          stack: '8388608:unlimited',
        },
      },
    });
  });

  it('leaves the names of runtimes as they are, and wants a path of each', () => {
    const { runtimes } = load('[runtimes.my_crun]\npath = "/usr/bin/crun"\nargs = ["--debug"]');
    const others = { annotations: [], root: '', rlimits: {} };
    assert.deepEqual(runtimes, { my_crun: { path: '/usr/bin/crun', args: ['--debug'], ...others } });
    assert.equal(
      complaintAbout('[runtimes.crun]\nargs = []'),
      'config FILE:1: "runtimes.crun.path" must be "berth" or an absolute path, not left out',
    );
    assert.match(
      complaintAbout('[runtimes.crun]\npath = "crun"'),
      /FILE:2: "runtimes.crun.path" must be "berth" or an absolute path/,
    );
    assert.match(
      complaintAbout('[runtimes.crun]\npath = "/c"\nprogram = 1'),
      /FILE:3: unknown key "runtimes.crun.program"/,
    );
    assert.match(complaintAbout('[runtimes."a b"]\npath = "/c"'), /each named with letters, digits/);
  });

  it('takes limits of processes, also of a runtime, and says what is wrong with one', () => {
    const { runtime, runtimes } = load(
      '[runtime.rlimits]\nnofile = "1024:unlimited"\ncore = "-1"\n[runtimes.big]\npath = "berth"\nrlimits = { memlock = "unlimited" }',
    );
    assert.deepEqual(
      [runtime.rlimits.nofile, runtime.rlimits.core, runtime.rlimits.nice],
      ['1024:unlimited', '-1', '0'],
    );
    assert.deepEqual(runtimes['big']?.rlimits, { memlock: 'unlimited' });
    const form = 'must be "soft:hard" or one number for both, each a whole number or "unlimited", soft not above hard';
    for (const [wrong, shown] of [
      ['"4096:1024"', '"4096:1024"'],
      ['"unlimited:5"', '"unlimited:5"'],
      ['"many"', '"many"'],
      ['"1k"', '"1k"'],
      ['1024', '1024'],
    ] as const) {
      assert.equal(
        complaintAbout(`[runtime.rlimits]\nnofile = ${wrong}`),
        `config FILE:2: "runtime.rlimits.nofile" ${form}, not ${shown}`,
      );
    }
    assert.match(
      complaintAbout('[runtime.rlimits]\nnofiles = "1"'),
      /FILE:2: unknown key .*did you mean "runtime.rlimits.nofile"/,
    );
    assert.match(
      complaintAbout('[runtimes.big]\npath = "berth"\nrlimits.memlok = "1"'),
      /FILE:3: unknown key "runtimes.big.rlimits.memlok"/,
    );
    assert.match(
      complaintAbout('[runtimes.big]\npath = "berth"\nrlimits.core = "x"'),
      /FILE:3: "runtimes.big.rlimits.core" must be/,
    );
  });

  it('fills up tables that a file begins', () => {
    const { log, registry } = load(
      'log = { format = "json" }\n[registry]\nplain_http = ["r.example:5000", "[::1]:80", "r"]',
    );
    assert.deepEqual(log, { level: 'info', format: 'json' });
    assert.deepEqual(registry.plainHttp, ['r.example:5000', '[::1]:80', 'r']);
    assert.equal(registry.maxConcurrentDownloads, 3);
  });

  it('cannot be changed afterwards', () => {
    const config = load('') as unknown as { root: string; log: { level: string }; registry: { plainHttp: string[] } };
    assert.throws(() => (config.root = '/x'), TypeError);
    assert.throws(() => (config.log.level = 'debug'), TypeError);
    assert.throws(() => config.registry.plainHttp.push('x'), TypeError);
  });

  it('merges drop-ins by table, in the order of their names, lists as a whole', () => {
    temp.write('config.d/20-b.toml', '[log]\nlevel = "debug"\n[network]\ncni_bin_dirs = ["/b"]');
    temp.write(
      'config.d/10-a.toml',
      '[log]\nlevel = "error"\nformat = "json"\n[network]\ncni_bin_dirs = ["/a", "/aa"]',
    );
    temp.write('config.d/99-not-toml.bak', 'nonsense');
    const config = load('state = "/s"\n[log]\nlevel = "warn"');
    assert.deepEqual(config.log, { level: 'debug', format: 'json' });
    assert.deepEqual(config.network.cniBinDirs, ['/b']);
    assert.equal(config.state, '/s');
  });

  it('lets flags win over files', () => {
    const file = temp.write('config.toml', 'root = "/from-file"\nstate = "/also"');
    const { root, state } = loadConfig({ file, root: '/from-flag' });
    assert.deepEqual({ root, state }, { root: '/from-flag', state: '/also' });
    assert.equal(complaint({ file, root: 'here' }), 'flags: "root" must be an absolute path, not "here"');
  });

  it('refuses a file that was named and is not there', () => {
    assert.match(
      complaint({ file: temp.path('absent.toml') }),
      /absent\.toml: cannot be read: ENOENT.*; create it, or/,
    );
  });

  it('refuses a drop-in that cannot be read', () => {
    temp.write('config.d/10-folder.toml/x', '');
    assert.match(complaint({ file: temp.write('config.toml', '') }), /10-folder\.toml: cannot be read: EISDIR/);
  });

  it('names the line and the nearest key of an unknown one', () => {
    assert.equal(
      complaintAbout('root = "/r"\n\n[regstry]\n# where\nhosts_dir = "/h"\n'),
      'config FILE:5: unknown key "regstry.hosts_dir"; did you mean "registry.hosts_dir"?',
    );
    assert.equal(complaintAbout('rot = "/r"'), 'config FILE:1: unknown key "rot"; did you mean "root"?');
    assert.equal(
      complaintAbout('[entirely_different]'),
      'config FILE:1: unknown key "entirely_different"; the README lists all keys',
    );
  });

  it('names the drop-in that is wrong, not the main file', () => {
    const dropIn = temp.write('config.d/10-a.toml', '[log]\nlevel = "loud"');
    const file = temp.write('config.toml', '[log]\nlevel = "info"');
    assert.equal(
      complaint({ file }),
      `config ${dropIn}:2: "log.level" must be one of "error", "warn", "info", "debug", not "loud"`,
    );
  });

  it('names everything that is wrong at once, where each statement begins', () => {
    const text = [
      'root = "var/lib"',
      'log = 3',
      '[network]',
      'cni_bin_dirs = [',
      '  "/opt/cni/bin",',
      '  7,',
      ']',
      'ranges = ["10.88.0.0/16", "10.89.0.0/99"]',
      '[registry]',
      'plain_http = ["https://r.example"]',
      'max_concurrent_downloads = 0.5',
      'mirror = 1979-05-27',
    ].join('\n');
    assert.deepEqual(complaintAbout(text).split('\n'), [
      'config FILE:1: "root" must be an absolute path, not "var/lib"',
      'config FILE:2: "log" must be a table, not 3',
      'config FILE:4: "network.cni_bin_dirs[1]" must be an absolute path, not 7',
      'config FILE:8: "network.ranges[1]" must be an address with a prefix length, such as "10.88.0.0/16", not "10.89.0.0/99"',
      'config FILE:10: "registry.plain_http[0]" must be "host" or "host:port", without a scheme, not "https://r.example"',
      'config FILE:11: "registry.max_concurrent_downloads" must be a whole number from 1 to 64, not 0.5',
      'config FILE:12: unknown key "registry.mirror"; the README lists all keys',
    ]);
  });

  it('names the line of a syntax error', () => {
    assert.match(complaintAbout('\n\nroot = \n'), /^config FILE:3: not valid TOML: [a-z ]+$/);
    assert.match(complaintAbout('[log]\nlevel = "info"\nlevel = "warn"'), /^config FILE:3: not valid TOML: /);
  });

  it('refuses any unknown key and names its line', () => {
    const known = ['root', 'state', 'log', 'registry', 'network', 'runtime'];
    const inTable = ['hosts_dir', 'plain_http', 'max_concurrent_downloads'];
    const statements = fc.subarray([
      'root = "/r"',
      'state = """\n/s"""',
      '# [x]',
      '',
      'log.level = "warn"',
      'network = {\n}',
    ]);
    const key = fc.oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('__proto__', 'constructor', 'toString'));
    const value = fc.constantFrom('1', '"x"', '[\n]', '{ a = 1 }', '{}', '2000-01-01', '"""\n"""');
    fc.assert(
      fc.property(statements, fc.boolean(), key, value, statements, (before, nested, name, given, after) => {
        fc.pre(!(nested ? inTable : known).includes(name));
        const rest = after.filter(statement => !before.includes(statement));
        const lead = [...before, ...(nested ? [...rest, '[registry]', 'hosts_dir = "/h"'] : [])].join('\n');
        const text = `${lead}\n${JSON.stringify(name)} = ${given}\n${nested ? '' : rest.join('\n')}`;
        const line = lead.split('\n').length + 1;
        assert.match(complaintAbout(text), new RegExp(`^config FILE:${line}: unknown key "`));
      }),
    );
  });
});
