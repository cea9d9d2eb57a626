import { createHash } from 'node:crypto';
import { BerthError } from '../base/errors';
import type { SELinuxOption } from '../cri';

/** What the host's policy has for containers, as labels: user:role:type, and :level where it has levels. */
export interface SelinuxHost {
  process: string;
  file: string;
  /** Of processes that nothing confines; absent where the policy has no label for them. */
  unconfined?: string;
  /** It separates pods by their levels. */
  hasLevels: boolean;
  /** The kernel takes `process` and `file`: a policy need not know of containers. */
  isKnown: boolean;
}

/** What of a pod decides about its containers' labels. */
export interface SelinuxPod {
  id: string;
  options: SELinuxOption | undefined;
  /** Its own, or what it has asked for; undefined of pods that are older than this. */
  level: string | undefined;
  /** Its containers see the host's processes or its IPC. */
  sharesHost: boolean;
}

export interface SelinuxLabels {
  /** Of a container's processes; absent: what the policy makes of the runtime's. */
  process?: string;
  /** Of all files of the container's root, and of its volumes. */
  file: string;
  /** Of what all containers of the pod share: /dev/shm, /etc/hosts. */
  podFile: string;
}

const PARTS = ['user', 'role', 'type', 'level'] as const;
const UNCONFINED_TYPE = 'spc_t';

/**
 * Labels of a container's processes and files. Parts that nobody names are the
 * host's; the level is the pod's own, so that pods do not reach each other's files.
 * Who has asked for nothing and is privileged, or sees the host's processes or its
 * IPC, is not confined: it could not do what it is there for.
 *
 * Without SELinux a label that is asked for is an error (`failed_precondition`),
 * but for spc_t, which is no confinement and which well-known add-ons name on all nodes.
 */
export function selinuxLabels(
  asked: SELinuxOption | undefined,
  isPrivileged: boolean,
  pod: SelinuxPod,
  host: SelinuxHost | undefined,
): SelinuxLabels | undefined {
  const options = isEmpty(asked) ? pod.options : asked;
  const isAsked = !isEmpty(options);
  if (options) assertParts(options, host);
  if (!host) {
    assertNotNeeded(options, isPrivileged);
    return undefined;
  }
  if (!isAsked && !host.isKnown) return undefined;
  const podLevel = host.hasLevels ? (pod.level ?? freeLevel(pod.id, new Set())) : '';
  const level = options?.level || podLevel;
  const isConfined = isAsked || (!isPrivileged && !pod.sharesHost);
  const process = isConfined ? labelOf(host.process, { ...options, level }) : host.unconfined;
  return {
    ...(process === undefined ? {} : { process }),
    file: fileLabel(host, options, level),
    podFile: fileLabel(host, pod.options, podLevel),
  };
}

/** Of the files that a pod's containers share. Throws as `selinuxLabels` does. */
export function podFileLabel(isPrivileged: boolean, pod: SelinuxPod, host: SelinuxHost | undefined) {
  return selinuxLabels(undefined, isPrivileged, pod, host)?.podFile;
}

function fileLabel(host: SelinuxHost, options: SELinuxOption | undefined, level: string): string {
  return labelOf(host.file, { user: options?.user ?? '', level });
}

/** `label` with those parts that are given. */
function labelOf(label: string, parts: Partial<SELinuxOption>): string {
  const [user = '', role = '', type = ''] = label.split(':');
  const { level = '' } = parts;
  return [parts.user || user, parts.role || role, parts.type || type, ...(level === '' ? [] : [level])].join(':');
}

/** The same label for all pods: of files that they share. */
export function sharedLabel(label: string): string {
  const [user = '', role = '', type = '', ...level] = label.split(':');
  return [user, role, type, ...(level.length === 0 ? [] : ['s0'])].join(':');
}

/** Of what is not confined, in the words of the host's label for containers. */
export function unconfinedLabel(process: string, hasLevels: boolean): string {
  return labelOf(process, { type: UNCONFINED_TYPE, level: hasLevels ? 's0' : '' });
}

function isEmpty(options: SELinuxOption | undefined): boolean {
  return options === undefined || PARTS.every(part => options[part] === '');
}

function assertParts(options: SELinuxOption, host: SelinuxHost | undefined): void {
  for (const part of PARTS) {
    const isLevel = part === 'level';
    if ((isLevel ? /^[\w.,:-]*$/ : /^[\w.-]*$/).test(options[part]) && options[part].length <= 255) continue;
    throw new BerthError(
      'invalid_argument',
      `selinux_options.${part} ${JSON.stringify(options[part])} is no part of a label`,
    );
  }
  if (options.level === '' || !host || host.hasLevels) return;
  throw new BerthError('failed_precondition', `SELinux level ${options.level}: this node's policy has no levels`, {
    hint: 'leave it out',
  });
}

function assertNotNeeded(options: SELinuxOption | undefined, isPrivileged: boolean): void {
  if (isPrivileged || isEmpty(options) || options?.type === UNCONFINED_TYPE) return;
  const label = PARTS.map(part => options?.[part] || '*').join(':');
  throw new BerthError('failed_precondition', `SELinux label ${label}: SELinux is not enabled on this node`, {
    hint: 'run the pod on a node that has it, or without selinux_options',
  });
}

const CATEGORIES = 1024;
const LEVELS = (CATEGORIES * (CATEGORIES - 1)) / 2;

/** Two of 1024 categories that no other pod has, the same again for the same pod where that is possible. */
export function freeLevel(id: string, taken: ReadonlySet<string>): string {
  for (let n = 0; n < LEVELS; n++) {
    const level = levelOf(n === 0 ? id : `${id}/${n}`);
    if (!taken.has(level)) return level;
  }
  return levelOf(id);
}

function levelOf(text: string): string {
  const hash = createHash('sha256').update(text).digest();
  const first = hash.readUInt32LE(0) % CATEGORIES;
  const second = (first + 1 + (hash.readUInt32LE(4) % (CATEGORIES - 1))) % CATEGORIES;
  const [low, high] = [first, second].sort((a, b) => a - b);
  return `s0:c${low},c${high}`;
}

/** A file of the policy, `lxc_contexts`: `process = "user:role:type:level"`, `file = …`; undefined without the two. */
export function contextsIn(text: string): { process: string; file: string } | undefined {
  const entry = (name: string) =>
    new RegExp(`^\\s*${name}\\s*=\\s*"([\\w.-]+:[\\w.-]+:[\\w.-]+(?::[\\w.,:-]+)?)"`, 'm').exec(text)?.[1];
  const [process, file] = [entry('process'), entry('file')];
  return process && file ? { process, file } : undefined;
}
