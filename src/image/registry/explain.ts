import type { Context } from '../../base/context';
import { kindOf, messageOf, type ErrorKind } from '../../base/errors';
import { wanted, type Reference } from '../reference';
import { userIn, type RegistryAuth } from './auth';
import { RegistryClient, type RegistryOptions } from './client';
import type { Endpoint } from './hosts';
import { proxyFor, shownProxy } from './proxies';

/** What a pull would find at one endpoint. Plain data, and no secret in it. */
export interface EndpointReport {
  /** Of the manifest that is asked for. */
  readonly url: string;
  /** `the default`, or the file and line that name the endpoint. */
  readonly why: string;
  /** Why it is plain HTTP, or how the certificate is checked. */
  readonly security: string;
  readonly capabilities: readonly ('pull' | 'resolve')[];
  readonly tlsFiles: readonly string[];
  /** Names of headers from hosts.toml. */
  readonly headers: readonly string[];
  /** Without user and password. */
  readonly proxy: string | undefined;
  /** Which credentials it would be offered should it ask for some. */
  readonly credentials: { readonly source: string; readonly username: string | undefined } | undefined;
  readonly answer: EndpointAnswer;
  /** The first that has the image: the one that a pull would take. */
  readonly used: boolean;
}

type EndpointAnswer =
  | {
      readonly kind: 'found';
      readonly latencyMs: number;
      readonly digest: string;
      readonly mediaType: string | undefined;
    }
  | { readonly kind: 'failed'; readonly latencyMs: number; readonly error: ErrorKind; readonly message: string }
  /** It may not answer such a question. */
  | { readonly kind: 'not asked' };

/** Asks every endpoint, in the order of a pull, once each. */
export async function explainPull(
  ctx: Context,
  reference: Reference,
  auth: RegistryAuth | undefined,
  options: RegistryOptions,
): Promise<EndpointReport[]> {
  const client = await RegistryClient.open(reference, auth, options);
  const reports: EndpointReport[] = [];
  for (const endpoint of client.endpoints) {
    const answer = await answerOf(ctx, client, endpoint, reference);
    const used = answer.kind === 'found' && !reports.some(report => report.used);
    reports.push({ ...(await described(client, endpoint, reference, options)), answer, used });
  }
  return reports;
}

async function answerOf(
  ctx: Context,
  client: RegistryClient,
  endpoint: Endpoint,
  reference: Reference,
): Promise<EndpointAnswer> {
  const may = reference.digest === undefined ? endpoint.canResolve : endpoint.canPull;
  if (!may) return { kind: 'not asked' };
  const startedAt = performance.now();
  const latencyMs = () => Math.round(performance.now() - startedAt);
  try {
    const { digest, mediaType } = await client.manifestFrom(ctx, endpoint, wanted(reference), 1);
    return { kind: 'found', latencyMs: latencyMs(), digest, mediaType };
  } catch (error) {
    ctx.throwIfEnded();
    return { kind: 'failed', latencyMs: latencyMs(), error: kindOf(error), message: messageOf(error) };
  }
}

async function described(
  client: RegistryClient,
  endpoint: Endpoint,
  reference: Reference,
  { transport, plainHttp }: RegistryOptions,
): Promise<Omit<EndpointReport, 'answer' | 'used'>> {
  const url = client.urlOf(endpoint, `manifests/${wanted(reference)}`);
  const found = await client.credentialsFor(endpoint).catch((error: unknown) => messageOf(error));
  return {
    url: url.href,
    why: endpoint.why,
    security: securityOf(endpoint, reference, plainHttp),
    capabilities: [
      ...(endpoint.canPull ? ['pull' as const] : []),
      ...(endpoint.canResolve ? ['resolve' as const] : []),
    ],
    tlsFiles: endpoint.tlsFiles ?? [],
    headers: Object.keys(endpoint.headers ?? {}),
    proxy: proxyOf(url, transport.proxies),
    credentials:
      typeof found === 'string'
        ? { source: found, username: undefined }
        : found && { source: found.source, username: userOf(found.auth) },
  };
}

function userOf(auth: RegistryAuth): string | undefined {
  return auth.identityToken ? 'an identity token' : auth.registryToken ? 'a registry token' : userIn(auth);
}

function securityOf({ origin, skipVerify, why }: Endpoint, { host }: Reference, plainHttp: readonly string[]): string {
  if (origin.startsWith('https:'))
    return skipVerify ? 'https, the certificate is not checked (skip_verify)' : 'https, the certificate is checked';
  if (why !== 'the default') return 'plain http, as the file says';
  return plainHttp.includes(host)
    ? 'plain http, as registry.plain_http says'
    : 'plain http, since it is a loopback address';
}

function proxyOf(url: URL, settings: Parameters<typeof proxyFor>[1]): string | undefined {
  try {
    const proxy = proxyFor(url, settings);
    return proxy && shownProxy(proxy);
  } catch (error) {
    return messageOf(error);
  }
}
