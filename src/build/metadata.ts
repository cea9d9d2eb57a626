import { posix } from 'node:path';
import { signalNumber } from '../oci/signals';
import { DockerfileError } from './dockerfile/error';
import type { Form } from './dockerfile/forms';
import type { Command, CommandOf, Healthcheck } from './dockerfile/parse';
import type { RunConfig } from './document';
import type { StageState } from './steps';

/** Instructions that change what is said of the image, and none of its files. */
export type MetadataCommand = Exclude<Command, { kind: 'RUN' | 'COPY' | 'ADD' | 'WORKDIR' | 'ARG' }>;

/** Applies one, and returns what the image's history says of it. */
export function applyMetadata(stage: StageState, command: MetadataCommand): string {
  const { config } = stage.document;
  const { scope } = stage;
  const expand = (text: string) => scope.expand(text, command);
  switch (command.kind) {
    case 'ENV':
      return env(config, command, expand);
    case 'LABEL': {
      const pairs = command.pairs.map(([key, value]) => [expand(key), expand(value)] as const);
      config.Labels = { ...config.Labels, ...Object.fromEntries(pairs) };
      return `LABEL ${pairs.map(([key, value]) => `${key}=${value}`).join(' ')}`;
    }
    case 'CMD':
      config.Cmd = argvOf(config, command.form);
      stage.hasOwnCommand = true;
      return `CMD ${JSON.stringify(config.Cmd)}`;
    case 'ENTRYPOINT':
      config.Entrypoint = argvOf(config, command.form);
      // The base's arguments were for the base's entrypoint.
      if (!stage.hasOwnCommand) delete config.Cmd;
      return `ENTRYPOINT ${JSON.stringify(config.Entrypoint)}`;
    case 'SHELL':
      config.Shell = [...command.argv];
      return `SHELL ${JSON.stringify(command.argv)}`;
    case 'USER':
      config.User = expand(command.text);
      return `USER ${config.User}`;
    case 'STOPSIGNAL':
      return stopSignal(config, command, expand(command.text));
    case 'EXPOSE':
      return expose(config, command, scope.expandWords(command.text, command));
    case 'VOLUME': {
      const paths = command.paths.map(expand);
      config.Volumes = { ...config.Volumes, ...Object.fromEntries(paths.map(path => [path, {}])) };
      return `VOLUME ${JSON.stringify(paths)}`;
    }
    case 'HEALTHCHECK':
      config.Healthcheck = healthcheck(command.check);
      return `HEALTHCHECK ${JSON.stringify(config.Healthcheck)}`;
    case 'ONBUILD':
      config.OnBuild = [...(config.OnBuild ?? []), command.trigger];
      return `ONBUILD ${command.trigger}`;
    case 'MAINTAINER':
      stage.document.author = command.text;
      return `MAINTAINER ${command.text}`;
  }
}

/** The directory of WORKDIR: a relative one goes on from the one before. */
export function workdirOf(config: RunConfig, text: string): string {
  return posix.resolve('/', config.WorkingDir || '/', text);
}

function env(config: RunConfig, { pairs }: CommandOf<'ENV' | 'LABEL'>, expand: (text: string) => string): string {
  // All of them see the variables as they were before this instruction.
  const given = pairs.map(([key, value]) => [expand(key), expand(value)] as const);
  for (const [key, value] of given) {
    const line = `${key}=${value}`;
    const at = (config.Env ?? []).findIndex(other => other.startsWith(`${key}=`));
    if (at < 0) config.Env = [...(config.Env ?? []), line];
    else config.Env = (config.Env ?? []).map((other, i) => (i === at ? line : other));
  }
  return `ENV ${given.map(([key, value]) => `${key}=${value}`).join(' ')}`;
}

function argvOf({ Shell = ['/bin/sh', '-c'] }: RunConfig, form: Form): string[] {
  return 'exec' in form ? [...form.exec] : [...Shell, form.shell];
}

function stopSignal(config: RunConfig, command: CommandOf<'STOPSIGNAL'>, text: string): string {
  if (signalNumber(text) === undefined) throw new DockerfileError(command, `STOPSIGNAL ${text}: it is no signal`);
  config.StopSignal = text;
  return `STOPSIGNAL ${text}`;
}

function expose(config: RunConfig, command: CommandOf<'EXPOSE'>, words: readonly string[]): string {
  const ports = words.flatMap(word => portsOf(word, command));
  config.ExposedPorts = { ...config.ExposedPorts, ...Object.fromEntries(ports.map(port => [port, {}])) };
  return `EXPOSE ${ports.join(' ')}`;
}

/** `80`, `80/udp`, `8000-8010` */
function portsOf(word: string, command: CommandOf<'EXPOSE'>): string[] {
  const [, first = '', last = first, protocol = 'tcp'] = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/i.exec(word) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (first === '' || from > 65535 || to > 65535 || from > to)
    throw new DockerfileError(command, `EXPOSE ${word}: it is no port`, { hint: 'such as 80, 53/udp or 8000-8010' });
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}/${protocol.toLowerCase()}`);
}

function healthcheck(check: Healthcheck): NonNullable<RunConfig['Healthcheck']> {
  if (check.form === 'none') return { Test: ['NONE'] };
  const test = 'exec' in check.form ? ['CMD', ...check.form.exec] : ['CMD-SHELL', check.form.shell];
  const fields = {
    ...{ Interval: check.intervalNs, Timeout: check.timeoutNs, StartPeriod: check.startPeriodNs },
    ...{ StartInterval: check.startIntervalNs, Retries: check.retries },
  };
  return { Test: test, ...Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) };
}
