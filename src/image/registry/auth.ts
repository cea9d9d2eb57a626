import { BerthError } from '../../base/errors';
import { apiHost, type Endpoint } from './hosts';
import { parseUrl } from './url';

/** Credentials as a client hands them over; the CRI's AuthConfig has the same fields. */
export interface RegistryAuth {
  readonly username?: string;
  readonly password?: string;
  /** base64 of `username:password`. */
  readonly auth?: string;
  /** The host they are for; without it, that of the image's name. */
  readonly serverAddress?: string;
  /** Is exchanged for a token at the registry's token server. */
  readonly identityToken?: string;
  /** Is sent to the registry as it is. */
  readonly registryToken?: string;
}

/** Asks a token server; the one thing here that needs the network. */
export type TokenFetch = (url: URL, request: TokenRequest) => Promise<string>;

export interface TokenRequest {
  readonly authorization: string | undefined;
  /** A form to POST; otherwise it is a GET. */
  readonly form: URLSearchParams | undefined;
}

export interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  readonly parameters: ReadonlyMap<string, string>;
}

/**
 * What is sent as Authorization during one pull. Credentials go to the host
 * they were given for and to the token server that this host names, never to a
 * mirror or to where a redirect leads (CVE-2020-15157).
 */
export class Authorizer {
  private readonly headers = new Map<string, string>();

  constructor(
    private readonly auth: RegistryAuth | undefined,
    private readonly imageHost: string,
  ) {}

  /** What to send to `endpoint` as far as it is known. */
  headerFor(endpoint: Endpoint): string | undefined {
    const known = this.headers.get(endpoint.origin);
    if (known !== undefined) return known;
    const token = this.mayKnow(endpoint) ? this.auth?.registryToken : undefined;
    return token ? `Bearer ${token}` : undefined;
  }

  /** True when this endpoint may see the credentials. */
  mayKnow(endpoint: Endpoint): boolean {
    return this.auth !== undefined && isHostOf(endpoint, this.auth.serverAddress || this.imageHost);
  }

  /** Answers a challenge of `endpoint`; false when there is no new answer to give. */
  async answer(
    endpoint: Endpoint,
    challenges: readonly Challenge[],
    scope: string,
    fetchToken: TokenFetch,
  ): Promise<boolean> {
    const before = this.headerFor(endpoint);
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const header = bearer
      ? `Bearer ${await this.token(endpoint, bearer, scope, fetchToken)}`
      : challenges.some(({ scheme }) => scheme === 'basic')
        ? this.basic(endpoint)
        : undefined;
    if (header === undefined || header === before) return false;
    this.headers.set(endpoint.origin, header);
    return true;
  }

  private basic(endpoint: Endpoint): string | undefined {
    if (!this.auth || !this.mayKnow(endpoint)) return undefined;
    const { auth, username, password } = this.auth;
    if (username) return `Basic ${Buffer.from(`${username}:${password ?? ''}`).toString('base64')}`;
    return auth ? `Basic ${checkedBase64(auth)}` : undefined;
  }

  private async token(
    endpoint: Endpoint,
    challenge: Challenge,
    scope: string,
    fetchToken: TokenFetch,
  ): Promise<string> {
    const url = realmOf(endpoint, challenge);
    const asked = new URLSearchParams({ scope: challenge.parameters.get('scope') ?? scope });
    const service = challenge.parameters.get('service');
    if (service !== undefined) asked.set('service', service);
    const identity = this.mayKnow(endpoint) ? this.auth?.identityToken : undefined;
    if (identity) {
      const form = new URLSearchParams([
        ...asked,
        ['grant_type', 'refresh_token'],
        ['client_id', 'berth'],
        ['refresh_token', identity],
      ]);
      return fetchToken(url, { authorization: undefined, form });
    }
    for (const [name, value] of asked) url.searchParams.set(name, value);
    return fetchToken(url, { authorization: this.basic(endpoint), form: undefined });
  }
}

/** The challenges of WWW-Authenticate headers (RFC 9110, 11.6.1); schemes we do not know are left out. */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  return headers.flatMap(header => {
    const starts = [...header.matchAll(/(?:^|,)\s*(basic|bearer)(?=\s|$|,)/gi)];
    return starts.map((start, i) => {
      const text = header.slice(start.index + start[0].length, starts[i + 1]?.index);
      const parameters = [...text.matchAll(/([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g)].map(
        ([, name = '', quoted, plain = '']): [string, string] => [
          name.toLowerCase(),
          quoted?.replace(/\\(.)/g, '$1') ?? plain,
        ],
      );
      return { scheme: start[1]?.toLowerCase() === 'basic' ? 'basic' : 'bearer', parameters: new Map(parameters) };
    });
  });
}

function realmOf(endpoint: Endpoint, challenge: Challenge): URL {
  const realm = challenge.parameters.get('realm') ?? '';
  const url = parseUrl(realm);
  const secure = url?.protocol === 'https:' || endpoint.origin.startsWith('http:');
  if (url && secure) return url;
  throw new BerthError(
    'unavailable',
    `${endpoint.origin} asks for a token of ${JSON.stringify(realm.slice(0, 200))}, which is not an https URL`,
  );
}

function checkedBase64(auth: string): string {
  if (Buffer.from(auth, 'base64').includes(':')) return auth;
  throw new BerthError('invalid_argument', 'the credentials are malformed: auth is not base64 of username:password');
}

/** Server addresses are written as hosts and as URLs, with and without the port that goes without saying. */
function isHostOf(endpoint: Endpoint, address: string): boolean {
  const { host, hostname, port, protocol } = new URL(endpoint.origin);
  const asked = plainHost(address);
  return asked === host || asked === `${hostname}:${port || (protocol === 'https:' ? '443' : '80')}`;
}

/** Docker Hub has more names than one. */
function plainHost(address: string): string {
  const host = apiHost(address.replace(/^https?:\/\//, '').split('/', 1)[0] ?? '').toLowerCase();
  return host === 'index.docker.io' ? 'registry-1.docker.io' : host;
}
