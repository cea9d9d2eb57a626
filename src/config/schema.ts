import { isIP } from 'node:net';
import { z } from 'zod';
import type { LogFormat, LogLevel } from '../base/log';
import { parseRlimit, RLIMIT_FORM, RLIMIT_NAMES, type RlimitName } from '../base/rlimits';

/**
 * The configuration's one description: keys, values, defaults and meaning. The
 * keys are those of the TOML file; `Config` has them in camelCase. Every key has
 * a default, so that a machine without a file is a configured machine.
 *
 * Each value carries what it must be as its error text and title: it completes
 * "must be …" in messages and fills a column of the README's table.
 */
export const schema = table({
  root: absolutePath()
    .default('/var/lib/berth')
    .describe('Where images, writable layers and records are kept; must survive a reboot.'),
  state: absolutePath()
    .default('/run/berth')
    .describe("Where sockets, pinned namespaces and running containers' files are; lost at a reboot."),
  log: table({
    level: oneOf(['error', 'warn', 'info', 'debug'] satisfies LogLevel[])
      .default('info')
      .describe('The least important messages that are still logged.'),
    format: oneOf(['text', 'json'] satisfies LogFormat[])
      .default('text')
      .describe('One line of text a message, or one JSON object a line.'),
  }),
  registry: table({
    hosts_dir: absolutePath()
      .default('/etc/berth/certs.d')
      .describe('A folder for each registry, `<host>[:port]/hosts.toml`: mirrors, certificates, headers.'),
    plain_http: listOf(hostAndPort(), 'a list of hosts, each "host" or "host:port"')
      .default([])
      .describe('Registries that are spoken to without TLS. Loopback addresses need not be named.'),
    docker_config: dockerConfig()
      .default('auto')
      .describe(
        "Credentials of the node's own, for pulls that bring none: a path is used by all, the kubelet's too; `auto` is $DOCKER_CONFIG/config.json or /root/.docker/config.json, and for people's pulls only; `none` reads no file.",
      ),
    credential_helper_dirs: listOf(absolutePath(), 'a list of absolute paths')
      .default(['/usr/local/bin', '/usr/bin', '/usr/local/sbin', '/usr/sbin', '/bin'])
      .describe("Where the docker config's credential helpers, `docker-credential-<name>`, are looked for."),
    progress_timeout_seconds: wholeNumber(1, 3600)
      .default(60)
      .describe(
        'A registry that sends nothing for this long is given up. How long a whole download takes does not matter.',
      ),
    max_concurrent_downloads: wholeNumber(1, 64)
      .default(3)
      .describe('Layers that are downloaded at a time by all pulls together; each pull has one in any case.'),
    allow_foreign_layers: flag()
      .default(false)
      .describe(
        "Takes images with foreign layers, which are fetched from the image's registry; their own URLs are never asked.",
      ),
    keep_layer_blobs: flag()
      .default(false)
      .describe('Keeps the compressed layers of images, too: `berth save` and repairs then need no registry.'),
  }),
  metrics: table({
    address: metricsAddress()
      .default('')
      .describe(
        'Where Prometheus reads `/metrics` over plain HTTP; without a host it is 127.0.0.1, and `""` is nowhere.',
      ),
  }),
  tracing: table({
    endpoint: collectorUrl()
      .default('')
      .describe(
        'A collector that takes traces of calls as OTLP over HTTP, such as `http://127.0.0.1:4318`; `""` is none.',
      ),
    samples_per_million: wholeNumber(0, 1_000_000)
      .default(1_000_000)
      .describe('Calls that are traced, of those whose caller has no trace; a caller that has one decides itself.'),
  }),
  streaming: table({
    address: ipAddress()
      .default('127.0.0.1')
      .describe(
        'Where clients of exec, attach and port-forward are sent to; one that is not loopback needs a certificate.',
      ),
    port: wholeNumber(0, 65535).default(0).describe('Of that address; 0 is any that is free.'),
    idle_timeout_seconds: wholeNumber(1, 604800)
      .default(14400)
      .describe('A session in which nothing moves for this long is closed.'),
    creation_timeout_seconds: wholeNumber(1, 3600)
      .default(30)
      .describe('How long a client may take to open the streams that it asked for.'),
    tls_cert_file: pathOrNone()
      .default('')
      .describe('A certificate in PEM, read again when it changes; `""` is no TLS.'),
    tls_key_file: pathOrNone().default('').describe('Its key.'),
  }),
  cdi: table({
    spec_dirs: listOf(absolutePath(), 'a list of absolute paths')
      .default(['/etc/cdi', '/var/run/cdi'])
      .describe('Where specs of the Container Device Interface lie; of two that have the same device the later wins.'),
  }),
  network: table({
    cni_config_dir: absolutePath()
      .default('/etc/cni/net.d')
      .describe('Where network plugins (CNI) put their configuration; the first file by name is the network of pods.'),
    cni_bin_dirs: listOf(absolutePath(), 'a list of absolute paths')
      .default(['/opt/cni/bin', '/usr/lib/cni'])
      .describe('Where network plugins lie; the first that has one is taken.'),
    cni_timeout_seconds: wholeNumber(1, 3600)
      .default(60)
      .describe('A network plugin that has not ended after this long is killed, and its call fails.'),
    embedded: oneOf(['all', 'people', 'none'])
      .default('people')
      .describe(
        "Whose pods are on berth's own bridge as long as `cni_config_dir` has no file: those of `berth run` alone (`people`), so that the kubelet waits for a plugin; `all`; or nobody's.",
      ),
    bridge: interfaceNameOrNone()
      .default('')
      .describe('The name of that bridge; `""` is `berth0`, or the next number where another berth daemon has that.'),
    ranges: listOf(subnet(), 'a list of subnets')
      .default([])
      .describe(
        'The subnets of that network, one of IPv4, of IPv6 or both; without any, the pod CIDR that the kubelet tells (with `all`), or else a private one that the host has no route to.',
      ),
    masquerade: flag().default(true).describe('What its pods send elsewhere comes from an address of the host.'),
    mtu: wholeNumber(0, 65535)
      .default(0)
      .describe("Of its interfaces; 0 is that of the interface of the host's default route."),
  }),
  runtimes: named(
    table({
      path: runtimeProgram().meta({
        description:
          "The program of an OCI runtime, such as `/usr/bin/crun`; `berth` is berth's own, with other limits.",
      }),
      rlimits: someRlimits()
        .default({})
        .describe(
          'Limits of the processes of its containers, such as `{ memlock = "unlimited" }`, over those of `runtime.rlimits`.',
        ),
      args: listOf(z.string('a text'), 'a list of texts')
        .default([])
        .describe(
          'Its options before the command, such as `["--debug"]`; cgroups are made by berth, whatever its driver.',
        ),
      annotations: listOf(z.string('a text'), 'a list of texts')
        .default([])
        .describe(
          'Annotations of pods and containers that it gets, such as `["module.wasm.image/*"]`; `*` stands at the end only.',
        ),
      root: z
        .string('"" or an absolute path')
        .regex(/^(?:|\/[^\0]*)$/, '"" or an absolute path')
        .meta({ title: '"" or an absolute path' })
        .default('')
        .describe('Where it keeps its state; `""` is `runtimes/<name>` below `state`.'),
    }),
  ),
  runtime: table({
    cgroup_driver: oneOf(['auto', 'cgroupfs', 'systemd'])
      .default('auto')
      .describe(
        'Who makes cgroups: `systemd`, a scope for each container, or `cgroupfs`, berth itself; the kubelet must use the same. `auto` is `systemd` where that is the init of the host, but stays with the pods that live.',
      ),
    pids_limit: wholeNumber(0, 4_194_304)
      .default(0)
      .describe('Processes and threads that one container may have; 0 is any number.'),
    pod_pids_limit: wholeNumber(0, 4_194_304)
      .default(0)
      .describe(
        'The same of all containers of a pod together, where berth makes the cgroup of the pod; the kubelet limits its own.',
      ),
    log_line_bytes: wholeNumber(1, 262_144)
      .default(16_384)
      .describe('A line of output that is longer than this becomes several records in the log of its container.'),
    rlimits: table({
      as: rlimit('unlimited', 'Bytes of addresses of a process.'),
      core: rlimit('unlimited', 'Bytes of a core dump; where it goes is the `kernel.core_pattern` of the host.'),
      cpu: rlimit('unlimited', 'Seconds of CPU time of a process.'),
      data: rlimit('unlimited', 'Bytes of data of a process.'),
      fsize: rlimit('unlimited', 'Bytes of a file that a process writes.'),
      locks: rlimit('unlimited', 'Without effect since Linux 2.4.'),
      memlock: rlimit('8388608', 'Bytes of memory that a process locks; RDMA and DPDK want more.'),
      msgqueue: rlimit('819200', 'Bytes of POSIX message queues, of all processes of a user.'),
      nice: rlimit('0', 'How far a process may lower its nice value: to 20 less this.'),
      nofile: rlimit('65536:1048576', 'Descriptors of a process.'),
      nproc: rlimit('unlimited', 'Processes of a user, in all containers together; `pids_limit` is for one container.'),
      rss: rlimit('unlimited', 'Without effect since Linux 2.4.'),
      rtprio: rlimit('0', 'The highest priority that a process may give itself in real-time scheduling.'),
      rttime: rlimit(
        'unlimited',
        'Microseconds that a process of real-time scheduling runs without a system call that waits.',
      ),
      sigpending: rlimit(
        'unlimited',
        'Signals and timers that wait, of all processes of a user, in all containers together.',
      ),
      stack: rlimit('8388608:unlimited', 'Bytes of a stack.'),
    }),
  }),
});

/** The configuration as the program uses it: complete, checked, frozen, in camelCase. */
export type Config = Camelized<z.output<typeof schema>>;

function table<Shape extends z.ZodRawShape>(shape: Shape) {
  // All keys have defaults; with prefault a missing table gets them too.
  return z.strictObject(shape, 'a table').prefault({} as never);
}

/** Tables under names that people choose; those names are left as they are. */
function named<Inner extends z.ZodType>(inner: Inner) {
  const expected = 'a table of tables, each named with letters, digits, "-", "_" and "."';
  return z.record(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, expected), inner, expected).prefault({});
}

function absolutePath() {
  const expected = 'an absolute path';
  return z
    .string(expected)
    .regex(/^\/[^\0]*$/, expected)
    .meta({ title: expected });
}

function pathOrNone() {
  const expected = '"" or an absolute path';
  return z
    .string(expected)
    .regex(/^(?:|\/[^\0]*)$/, expected)
    .meta({ title: expected });
}

function interfaceNameOrNone() {
  const expected = '"" or a name for an interface, of 15 letters at most';
  return z
    .string(expected)
    .regex(/^[A-Za-z0-9_.-]{0,15}$/, expected)
    .meta({ title: expected });
}

function subnet() {
  const expected = 'an address with a prefix length, such as "10.88.0.0/16"';
  return z.string(expected).refine(isSubnet, expected).meta({ title: expected });
}

function isSubnet(text: string): boolean {
  const [, address = '', bits = ''] = /^([0-9a-f.:]+)\/(\d{1,3})$/i.exec(text) ?? [];
  const family = isIP(address);
  return family !== 0 && Number(bits) <= (family === 4 ? 32 : 128);
}

function ipAddress() {
  const expected = 'an IP address';
  return z
    .string(expected)
    .regex(/^(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f:.]*:[0-9a-f:.]*)$/i, expected)
    .meta({ title: expected });
}

function metricsAddress() {
  const expected = '"", ":port", "host:port" or "unix:/path"';
  return z
    .string(expected)
    .regex(/^(?:|unix:\/[^\0]+|(?:[a-z0-9._-]*|\[[0-9a-f:.]+\]):\d{1,5})$/i, expected)
    .meta({ title: expected });
}

function collectorUrl() {
  const expected = '"" or an http or https URL';
  return z
    .string(expected)
    .regex(/^(?:|https?:\/\/(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?(?:\/[^\s?#@]*)?)$/i, expected)
    .meta({ title: expected });
}

/** A limit of processes, with its default. */
function rlimit(fallback: string, meaning: string) {
  return rlimitText().default(fallback).describe(meaning);
}

/** Any of the limits of processes. */
function someRlimits() {
  const keys = RLIMIT_NAMES.map(name => [name, rlimitText().optional()]);
  const shape = Object.fromEntries(keys) as Record<RlimitName, z.ZodOptional<ReturnType<typeof rlimitText>>>;
  return z.strictObject(shape, 'a table of limits').meta({ title: 'a table of limits' });
}

function rlimitText() {
  return z
    .string(RLIMIT_FORM)
    .refine(text => parseRlimit(text) !== undefined, RLIMIT_FORM)
    .meta({ title: '"soft:hard", or one for both' });
}

function runtimeProgram() {
  const expected = '"berth" or an absolute path';
  return z
    .string(expected)
    .regex(/^(?:berth|\/[^\0]*)$/, expected)
    .meta({ title: expected });
}

function dockerConfig() {
  const expected = '"auto", "none" or an absolute path';
  return z
    .string(expected)
    .regex(/^(?:auto|none|\/[^\0]*)$/, expected)
    .meta({ title: expected });
}

function hostAndPort() {
  const expected = '"host" or "host:port", without a scheme';
  return z.string(expected).regex(/^([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?$/i, expected);
}

function oneOf<const Values extends readonly string[]>(values: Values) {
  const expected = `one of ${values.map(value => JSON.stringify(value)).join(', ')}`;
  return z.enum(values, expected).meta({ title: expected });
}

function wholeNumber(least: number, most: number) {
  const expected = `a whole number from ${least} to ${most}`;
  return z.int(expected).min(least, expected).max(most, expected).meta({ title: expected });
}

function flag() {
  const expected = 'true or false';
  return z.boolean(expected).meta({ title: expected });
}

function listOf<Element extends z.ZodType>(element: Element, expected: string) {
  return z.array(element, expected).meta({ title: expected });
}

type CamelCase<Key extends string> = Key extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Key;

type Camelized<Value> = Value extends readonly (infer Element)[]
  ? readonly Element[]
  : string extends keyof Value
    ? { readonly [Name in keyof Value]: Camelized<Value[Name]> }
    : Value extends object
      ? { readonly [Key in keyof Value as CamelCase<Key & string>]: Camelized<Value[Key]> }
      : Value;

/** From the file's shape to the program's: keys in camelCase, everything frozen. */
export function toConfig(checked: z.output<typeof schema>): Config {
  return camelize(checked) as Config;
}

function camelize(value: unknown): unknown {
  if (Array.isArray(value)) return Object.freeze([...(value as unknown[])]);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => {
    if (key !== NAMED_TABLES) return [camelCase(key), camelize(inner)];
    const tables = Object.entries(inner as object).map(([name, table]): [string, unknown] => [name, camelize(table)]);
    return [key, Object.freeze(Object.fromEntries(tables))];
  });
  return Object.freeze(Object.fromEntries(entries));
}

/** The one key whose tables have names of people's own. */
const NAMED_TABLES = 'runtimes';

function camelCase(key: string): string {
  return key.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}
