import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Source } from '../image/workshop';
import { randomHexId } from '../base/ids';
import { digestText } from './cache';
import type { CacheMountRequest, HeldCaches } from './cache-mounts';
import { copyOps } from './copy-ops';
import { DockerfileError } from './dockerfile/error';
import type { CommandOf } from './dockerfile/parse';
import { digestFiles, findFiles, inside } from './files';
import { mountOptions } from './mount-options';
import { scriptOf } from './script';
import type { StepCommand } from './step-container';
import type { StageState, StepTools } from './steps';

type RunCommand = CommandOf<'RUN'>;
type MountSpec = StepCommand['mounts'][number];

/** What a step's container gets, once it must run. */
interface HeldMounts {
  readonly mounts: MountSpec[];
  readonly env: (readonly [string, string])[];
  readonly secretEnv: (readonly [string, Buffer])[];
}

/** The mounts of a RUN: what they are for the cache, and how they are made. */
export interface StepMounts extends AsyncDisposable {
  readonly inputs: (readonly [string, string])[];
  mount(ctx: Context): Promise<HeldMounts>;
}

/** What is to be done once the step has ended. */
type Closing = (() => unknown)[];

interface Made {
  readonly mount?: MountSpec;
  readonly env?: readonly [string, string];
  readonly secretEnv?: readonly [string, Buffer];
}

interface Prepared {
  /** For the cache: absent for what a step may find changed. */
  readonly input: string;
  /** What `make` finds among the caches. */
  readonly cache?: CacheMountRequest;
  readonly make: (ctx: Context, closing: Closing, caches: HeldCaches) => Promise<Made>;
}

const plain = {
  type: 'bind',
  source: '',
  options: [],
  ...{ readonly: false, nosuid: true, nodev: true, noexec: false, propagation: 'private' },
} as const satisfies Partial<MountSpec>;

export async function openMounts(
  tools: StepTools,
  stage: StageState,
  command: RunCommand,
  cwd: string,
): Promise<StepMounts> {
  const prepared: Prepared[] = [];
  for (const text of command.mounts) {
    const options = mountOptions(stage.scope.expand(text, command), command);
    prepared.push(await prepare(tools, command, options, cwd));
  }
  prepared.push(...scriptMount(tools, command));
  const closing: Closing = [];
  return {
    inputs: prepared.map(({ input }, i) => [`mount ${i + 1}`, input] as const),
    mount: async ctx => {
      const made: Made[] = [];
      const caches = await tools.parts.cacheMounts.open(
        ctx,
        prepared.flatMap(({ cache }) => cache ?? []),
      );
      closing.push(() => caches[Symbol.dispose]());
      for (const { make } of prepared) made.push(await make(ctx, closing, caches));
      return {
        mounts: made.flatMap(({ mount }) => mount ?? []),
        env: made.flatMap(({ env }) => (env ? [env] : [])),
        secretEnv: made.flatMap(({ secretEnv }) => (secretEnv ? [secretEnv] : [])),
      };
    },
    [Symbol.asyncDispose]: async () => {
      for (const close of closing.reverse()) await close();
    },
  };
}

type Options = ReadonlyMap<string, string>;
type Preparer = (tools: StepTools, command: RunCommand, options: Options, cwd: string) => Promise<Prepared>;

const preparers: Readonly<Record<string, Preparer>> = {
  bind: prepareBind,
  cache: prepareCache,
  tmpfs: async (_tools, command, options, cwd) => {
    const size = options.get('size');
    const destination = targetOf(command, options, cwd);
    const mount = {
      ...plain,
      type: 'tmpfs',
      destination,
      options: ['mode=1777', ...(size === undefined ? [] : [`size=${size}`])],
    };
    return { input: `tmpfs ${destination} ${size ?? ''}`, make: async () => ({ mount }) };
  },
  secret: prepareSecret,
  ssh: prepareSsh,
};

function prepare(tools: StepTools, command: RunCommand, options: Options, cwd: string): Promise<Prepared> {
  const type = options.get('type') ?? 'bind';
  const preparer = preparers[type];
  if (preparer) return preparer(tools, command, options, cwd);
  throw new DockerfileError(command, `RUN --mount=type=${type}: it is ${Object.keys(preparers).join(', ')}`);
}

async function prepareBind(tools: StepTools, command: RunCommand, options: Options, cwd: string): Promise<Prepared> {
  const { workshop, ctx } = tools;
  const from = options.get('from');
  const source: Source = from === undefined ? { sent: await tools.context() } : await tools.sourceOf(from);
  const path = inside(options.get('source') ?? '');
  const found = await findFiles(workshop, ctx, source, [path], [], command);
  const destination = targetOf(command, options, cwd);
  const isWritable = options.get('readwrite') === 'true' || options.get('readonly') === 'false';
  const make = async () => {
    if (!isWritable) {
      const lowers = await workshop.dirsOf(source);
      return { mount: { ...plain, destination, readonly: true, source: path, image: { lowers, subPath: path } } };
    }
    // What is written is thrown away with this copy.
    const isDirectory = found[0]?.entries[0]?.type === 'directory';
    const ops = await copyOps(found, { path: '/copy', isDirectory: false, parents: false, keepsOwners: true });
    const upper = await workshop.copied(ctx, [{ source, ops }], []);
    if (isDirectory) await mkdir(join(upper, 'copy'), { recursive: true });
    return { mount: { ...plain, destination, source: join(upper, 'copy') } };
  };
  return { input: `bind ${destination} ${isWritable} ${await digestFiles(found, true)}`, make };
}

async function prepareCache(_tools: StepTools, command: RunCommand, options: Options, cwd: string): Promise<Prepared> {
  const destination = targetOf(command, options, cwd);
  const id = options.get('id') ?? destination;
  const sharing = options.get('sharing') ?? 'shared';
  if (sharing !== 'shared' && sharing !== 'private' && sharing !== 'locked')
    throw new DockerfileError(command, `RUN --mount: sharing=${sharing} is neither shared, private nor locked`);
  if (options.has('from'))
    throw new DockerfileError(command, 'RUN --mount=type=cache: from= is not in this version of berth');
  const isReadonly = options.get('readonly') === 'true';
  const cache = { id, sharing, ...ownerIn(command, options, 0o755) } as const;
  return {
    ...{ input: `cache ${destination} ${id}${accessIn(options)}`, cache },
    make: async (_ctx, _closing, { dirs }) => {
      const source = dirs.get(cache);
      if (source === undefined) throw new BerthError('internal', `the cache mount ${id} is not held`);
      return { mount: { ...plain, destination, source, readonly: isReadonly } };
    },
  };
}

async function prepareSecret(tools: StepTools, command: RunCommand, options: Options, cwd: string): Promise<Prepared> {
  const env = options.get('env');
  const id = options.get('id') ?? posix.basename(options.get('target') ?? env ?? '');
  if (id === '') throw new DockerfileError(command, 'RUN --mount=type=secret: it needs an id');
  const target = options.get('target');
  const destination = target === undefined ? `/run/secrets/${id}` : posix.resolve(cwd, target);
  const value = tools.options.secrets.get(id);
  const input = `secret ${env ?? ''} ${destination} ${id}${accessIn(options)}`;
  if (value === undefined) {
    if (options.get('required') !== 'true') return { input, make: async () => ({}) };
    throw new DockerfileError(command, `the secret ${id} is required and was not given`, {
      hint: `give it: --secret id=${id},src=FILE`,
    });
  }
  if (env !== undefined && target === undefined) {
    if (value.includes(0)) throw new DockerfileError(command, `the secret ${id} has a NUL, which no variable can have`);
    return { input, make: async () => ({ secretEnv: [env, Buffer.from(value)] }) };
  }
  return {
    input,
    make: async (_ctx, closing) => {
      const source = join(tools.parts.secretsDir, randomHexId());
      closing.push(() => rm(source, { force: true }));
      await writeSecret(source, value, ownerIn(command, options, 0o400));
      return { mount: { ...plain, destination, source, readonly: true, noexec: true } };
    },
  };
}

async function writeSecret(path: string, value: Uint8Array, owner: Owner): Promise<void> {
  await writeFile(path, value, { mode: 0o600, flag: 'wx' });
  await chown(path, owner.uid, owner.gid);
  await chmod(path, owner.mode);
}

async function prepareSsh(tools: StepTools, command: RunCommand, options: Options, cwd: string): Promise<Prepared> {
  const id = options.get('id') ?? 'default';
  const target = options.get('target');
  const destination = target === undefined ? `/run/berth/ssh_agent.${id}` : posix.resolve(cwd, target);
  const source = tools.options.ssh.get(id);
  const input = `ssh ${destination} ${id}`;
  if (source !== undefined)
    return {
      input,
      make: async () => ({ mount: { ...plain, destination, source }, env: ['SSH_AUTH_SOCK', destination] as const }),
    };
  if (options.get('required') !== 'true') return { input, make: async () => ({}) };
  throw new DockerfileError(command, `the ssh agent ${id} is required and was not given`, {
    hint: `give it: --ssh ${id}`,
  });
}

/** A heredoc that begins with #! is a file that is executed. */
function scriptMount({ workshop }: StepTools, { form, heredocs }: RunCommand): Prepared[] {
  if ('exec' in form || heredocs.length === 0) return [];
  const script = scriptOf(form, heredocs);
  if (!script.startsWith('#!')) return [];
  const make = async () => {
    const dir = workshop.fresh('script');
    await mkdir(dir, { mode: 0o755 });
    await writeFile(join(dir, 'script'), script, { mode: 0o755 });
    return { mount: { ...plain, destination: '/dev/pipes', source: dir, readonly: true } };
  };
  return [{ input: `script ${digestText(script)}`, make }];
}

interface Owner {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

function ownerIn(command: RunCommand, options: Options, mode: number): Owner {
  const number = (name: string, base: number, otherwise: number) => {
    const text = options.get(name);
    if (text === undefined) return otherwise;
    if (/^[0-9]+$/.test(text)) return parseInt(text, base);
    throw new DockerfileError(command, `RUN --mount: ${name}=${text} is no number`);
  };
  return { mode: number('mode', 8, mode), uid: number('uid', 10, 0), gid: number('gid', 10, 0) };
}

/** What is said of who may do what there, for the cache: a command may do something else where it may not. */
function accessIn(options: Options): string {
  const given = ['mode', 'uid', 'gid', 'readonly'].filter(name => options.has(name));
  return given.map(name => ` ${name}=${options.get(name)}`).join('');
}

function targetOf(command: RunCommand, options: Options, cwd: string): string {
  const target = options.get('target');
  if (target === undefined || target === '') throw new DockerfileError(command, 'RUN --mount: it needs a target');
  const path = posix.resolve(cwd, target);
  if (path !== '/') return path;
  throw new DockerfileError(command, 'RUN --mount: nothing can be mounted at /');
}
