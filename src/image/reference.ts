import { BerthError } from '../base/errors';
import { parseDigest, type Digest } from './digest';

/**
 * A name of an image, in full: where it is (`host`), what it is called there
 * (`repository`), and which one is meant: by tag, by digest or, when both are
 * written, by digest. Never without either.
 */
export interface Reference {
  /** `docker.io`, `registry.example:5000`, `[::1]:5000`. */
  readonly host: string;
  /** Path below the host, such as `library/busybox`. */
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

/* The grammar of the distribution project's reference.md. */
const hostGrammar =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const repositoryGrammar = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagGrammar = /^\w[\w.-]{0,127}$/;
const idGrammar = /^[0-9a-f]{64}$/;
const nameMax = 255;

const dockerHub = 'docker.io';
const dockerHubOld = 'index.docker.io';
const dockerLibrary = 'library/';

/** Parses what people and kubelets write; short names mean Docker Hub, no tag and no digest mean `latest`. */
export function parseReference(text: string): Reference {
  const { name, tag, digest } = split(text);
  const { host, repository } = qualify(name);
  if (idGrammar.test(text)) throw refused(text, 'it is an image id, and registries know names only');
  if (!hostGrammar.test(host)) throw refused(text, `${quote(host)} is not a host name`);
  if (!repositoryGrammar.test(repository)) throw refused(text, whyNotRepository(repository));
  if (host.length + 1 + repository.length > nameMax)
    throw refused(text, `its name is longer than ${nameMax} characters`);
  if (tag !== undefined && !tagGrammar.test(tag)) throw refused(text, `${quote(tag)} is not a tag`);
  const which = digest === undefined ? { tag: tag ?? 'latest' } : tag === undefined ? {} : { tag };
  return {
    host,
    repository,
    ...which,
    ...(digest === undefined ? {} : { digest: parseDigest(digest, `reference ${quote(text)}`) }),
  };
}

/** A registry as people name one to log in to: a host or a URL; none is Docker Hub. */
export function parseHost(text: string): string {
  const host = text.replace(/^https?:\/\//, '').split('/', 1)[0] ?? '';
  if ((host === '' && text === '') || host === dockerHubOld) return dockerHub;
  if (hostGrammar.test(host)) return host;
  throw new BerthError('invalid_argument', `${quote(text)} is not the name of a registry`, {
    hint: 'registries have names such as registry.example:5000',
  });
}

/** Where it is, without which one is meant: `docker.io/library/busybox`. */
export function repositoryForm({ host, repository }: Reference): string {
  return `${host}/${repository}`;
}

/** The reference in full: `docker.io/library/busybox:latest`. */
export function canonicalForm(reference: Reference): string {
  return `${reference.host}/${reference.repository}${suffix(reference)}`;
}

/** The shortest text that means the same: `busybox:latest`. */
export function familiarForm(reference: Reference): string {
  const { host, repository } = reference;
  if (host !== dockerHub) return canonicalForm(reference);
  const short = repository.startsWith(dockerLibrary) ? repository.slice(dockerLibrary.length) : repository;
  if (isHostLike(repository.split('/', 1)[0] ?? '')) return canonicalForm(reference); // a user called localhost
  return `${short.includes('/') || short === repository ? repository : short}${suffix(reference)}`;
}

/** `docker.io/library/busybox:1`, or undefined when a digest says which image is meant. */
export function tagForm(reference: Reference): string | undefined {
  if (reference.digest !== undefined || reference.tag === undefined) return undefined;
  return `${reference.host}/${reference.repository}:${reference.tag}`;
}

/** `docker.io/library/busybox@sha256:…` */
export function digestForm(reference: Reference, digest: Digest): string {
  return `${reference.host}/${reference.repository}@${digest}`;
}

/** What the registry is asked for: the digest if there is one, else the tag. */
export function wanted(reference: Reference): string {
  return reference.digest ?? reference.tag ?? 'latest';
}

function split(text: string): { name: string; tag?: string; digest?: string } {
  const at = text.indexOf('@');
  const digest = at < 0 ? {} : { digest: text.slice(at + 1) };
  const rest = at < 0 ? text : text.slice(0, at);
  const colon = rest.lastIndexOf(':');
  if (colon < 0 || rest.indexOf('/', colon) >= 0) return { name: rest, ...digest };
  return { name: rest.slice(0, colon), tag: rest.slice(colon + 1), ...digest };
}

/** The part before the first slash is a host if it cannot be anything else: a dot, a port, capitals or `localhost`. */
function isHostLike(first: string): boolean {
  return /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
}

function qualify(name: string): { host: string; repository: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const isHost = isHostLike(first);
  const host = isHost && first !== dockerHubOld ? first : dockerHub;
  const path = isHost ? name.slice(slash + 1) : name;
  return { host, repository: host === dockerHub && !path.includes('/') ? dockerLibrary + path : path };
}

function suffix({ tag, digest }: Reference): string {
  return `${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

function whyNotRepository(repository: string): string {
  if (repository === '' || repository === dockerLibrary) return 'it names no repository';
  if (repository.toLowerCase() !== repository) return `the repository ${quote(repository)} must be in lower case`;
  return `${quote(repository)} is not a repository name`;
}

function refused(text: string, why: string): BerthError {
  return new BerthError('invalid_argument', `${quote(text)} is not an image reference: ${why}`, {
    hint: 'references look like registry.example/app:1 or busybox@sha256:<64 hex digits>',
  });
}

function quote(text: string): string {
  return JSON.stringify(text.length > 300 ? `${text.slice(0, 300)}…` : text);
}
