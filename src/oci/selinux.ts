import { createHash } from 'node:crypto';
import { BerthError } from '../base/errors';
import type { SELinuxOption } from '../cri';

/** The host's labels for containers: user:role:type:level. Undefined everywhere: the host has no SELinux. */
export interface SelinuxHost {
  process: string;
  file: string;
}

export interface SelinuxLabels {
  process: string;
  /** Of all files of the container's root. */
  file: string;
}

const PARTS = ['user', 'role', 'type', 'level'] as const;

/**
 * Labels of a container's processes and files. Parts that nobody names are the
 * host's; the level is the pod's own pair of categories, so that pods do not reach
 * each other's files. Privileged containers have a label only if they name one.
 *
 * Without SELinux a label that is asked for is an error (`failed_precondition`),
 * but for spc_t, which is no confinement and which well-known add-ons name on all nodes.
 */
export function selinuxLabels(
  asked: SELinuxOption | undefined,
  pod: { id: string; isPrivileged: boolean; options: SELinuxOption | undefined },
  host: SelinuxHost | undefined,
): SelinuxLabels | undefined {
  const options = isEmpty(asked) ? pod.options : asked;
  if (options) assertParts(options);
  if (!host) {
    assertNotNeeded(options, pod.isPrivileged);
    return undefined;
  }
  if (pod.isPrivileged && isEmpty(options)) return undefined;
  const level = options?.level || pod.options?.level || podLevel(pod.id);
  const [user, role, type] = host.process.split(':');
  const process = [options?.user || user, options?.role || role, options?.type || type, level].join(':');
  return { process, file: [...host.file.split(':').slice(0, 3), level].join(':') };
}

function isEmpty(options: SELinuxOption | undefined): boolean {
  return options === undefined || PARTS.every(part => options[part] === '');
}

function assertParts(options: SELinuxOption): void {
  for (const part of PARTS) {
    const isLevel = part === 'level';
    if ((isLevel ? /^[\w.,:-]*$/ : /^[\w.-]*$/).test(options[part]) && options[part].length <= 255) continue;
    throw new BerthError(
      'invalid_argument',
      `selinux_options.${part} ${JSON.stringify(options[part])} is no part of a label`,
    );
  }
}

function assertNotNeeded(options: SELinuxOption | undefined, isPrivileged: boolean): void {
  if (isPrivileged || isEmpty(options) || options?.type === 'spc_t') return;
  const label = PARTS.map(part => options?.[part] || '*').join(':');
  throw new BerthError('failed_precondition', `SELinux label ${label}: SELinux is not enabled on this node`, {
    hint: 'run the pod on a node that has it, or without selinux_options',
  });
}

const CATEGORIES = 1024;

/** Two of 1024 categories, the same for all containers of a pod. */
function podLevel(id: string): string {
  const hash = createHash('sha256').update(id).digest();
  const first = hash.readUInt32LE(0) % CATEGORIES;
  const second = (first + 1 + (hash.readUInt32LE(4) % (CATEGORIES - 1))) % CATEGORIES;
  const [low, high] = [first, second].sort((a, b) => a - b);
  return `s0:c${low},c${high}`;
}

/** A file of the policy, `lxc_contexts`: `process = "user:role:type:level"`, `file = …`; undefined without the two. */
export function selinuxHostOf(text: string): SelinuxHost | undefined {
  const entry = (name: string) =>
    new RegExp(`^\\s*${name}\\s*=\\s*"([\\w.-]+:[\\w.-]+:[\\w.-]+:[\\w.,:-]+)"`, 'm').exec(text)?.[1];
  const [process, file] = [entry('process'), entry('file')];
  return process && file ? { process, file } : undefined;
}

/** The label of a container's files: of the request's user, role and level, and the type that containers may write. */
export function mountLabel(options: SELinuxOption | undefined): string {
  const { user = '', role = '', level = '' } = options ?? {};
  const label = `${user || 'system_u'}:${role || 'object_r'}:container_file_t:${level || 's0'}`;
  if (/^[\w.:,-]{1,255}$/.test(label)) return label;
  throw new BerthError('invalid_argument', `selinux_options: ${JSON.stringify(label)} is not a label`);
}
