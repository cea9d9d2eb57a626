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

/** Credentials that the node keeps, and where. */
export interface StoredAuth {
  readonly auth: RegistryAuth;
  readonly source: string;
}

export interface TokenRequest {
  readonly authorization: string | undefined;
  /** A form to POST; otherwise it is a GET. */
  readonly form: URLSearchParams | undefined;
}

export interface Token {
  readonly token: string;
  readonly expiresInSeconds: number | undefined;
}

/** Asks a token server; undefined when it does not know this way of asking (404, 405). */
export type TokenFetch = (url: URL, request: TokenRequest) => Promise<Token | undefined>;

export interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  readonly parameters: ReadonlyMap<string, string>;
}

/**
 * What is sent as Authorization during one pull. Credentials go to the host
 * they were given for and to the token server that this host names, never to a
 * mirror or to where a redirect leads (CVE-2020-15157). Those of the request
 * come first, then those that the node has for the endpoint's own host.
 */
export class Authorizer {
  private readonly headers = new Map<string, { header: string; until: number }>();
  private readonly stored = new Map<string, Promise<StoredAuth | undefined>>();
  /** Token requests under way: layers that are refused together ask once. */
  private readonly asking = new Map<string, Promise<string | undefined>>();

  constructor(
    private readonly auth: RegistryAuth | undefined,
    private readonly imageHost: string,
    private readonly storedFor: (host: string) => Promise<StoredAuth | undefined> = async () => undefined,
  ) {}

  /** What to send to `endpoint` as far as it is known. */
  headerFor(endpoint: Endpoint): string | undefined {
    const known = this.headers.get(endpoint.origin);
    if (known !== undefined) return known.until > Date.now() ? known.header : undefined;
    const token = this.mayKnow(endpoint) ? this.auth?.registryToken : undefined;
    return token ? `Bearer ${token}` : undefined;
  }

  /** True when this endpoint may see the credentials that came with the request. */
  mayKnow(endpoint: Endpoint): boolean {
    return isGiven(this.auth) && isHostOf(endpoint, this.auth.serverAddress || this.imageHost);
  }

  /** The credentials for this endpoint, and where they are from. */
  async credentialsFor(endpoint: Endpoint): Promise<StoredAuth | undefined> {
    if (this.auth && this.mayKnow(endpoint)) return { auth: this.auth, source: 'the request' };
    const { host } = new URL(endpoint.origin);
    const known = this.stored.get(host) ?? this.storedFor(host);
    this.stored.set(host, known);
    return known;
  }

  /** Answers a challenge to a request that had `sent`; false when there is no new answer to give. */
  async answer(
    endpoint: Endpoint,
    challenges: readonly Challenge[],
    /** Where the challenge names none; empty for none at all. */
    scope: string,
    sent: string | undefined,
    fetchToken: TokenFetch,
  ): Promise<boolean> {
    const now = this.headerFor(endpoint);
    if (now !== undefined && now !== sent) return true; // somebody else has been given a new one
    const key = `${endpoint.origin} ${JSON.stringify(challenges.map(({ parameters }) => [...parameters]))}`;
    const asking = this.asking.get(key) ?? this.newHeader(endpoint, challenges, scope, fetchToken);
    this.asking.set(key, asking);
    try {
      const header = await asking;
      return header !== undefined && header !== sent;
    } finally {
      this.asking.delete(key);
    }
  }

  private async newHeader(
    endpoint: Endpoint,
    challenges: readonly Challenge[],
    scope: string,
    fetchToken: TokenFetch,
  ): Promise<string | undefined> {
    const basic = challenges.some(({ scheme }) => scheme === 'basic') ? await this.basic(endpoint) : undefined;
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    let [header, until] = [basic, Infinity];
    if (bearer)
      try {
        const { token, expiresInSeconds } = await this.token(endpoint, bearer, scope, fetchToken);
        header = `Bearer ${token}`;
        // Given up a little early: the request still has to get there.
        if (expiresInSeconds !== undefined)
          until = Date.now() + Math.max(expiresInSeconds - 5, expiresInSeconds / 2) * 1000;
      } catch (error) {
        if (basic === undefined) throw error;
      }
    if (header !== undefined) this.headers.set(endpoint.origin, { header, until });
    return header;
  }

  private async basic(endpoint: Endpoint): Promise<string | undefined> {
    const found = await this.credentialsFor(endpoint);
    const login = found && loginIn(found.auth);
    return login && `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`;
  }

  private async token(endpoint: Endpoint, challenge: Challenge, scope: string, fetchToken: TokenFetch): Promise<Token> {
    const url = realmOf(endpoint, challenge);
    const wanted = challenge.parameters.get('scope') ?? scope;
    const asked = new URLSearchParams(wanted === '' ? {} : { scope: wanted });
    const service = challenge.parameters.get('service');
    if (service !== undefined) asked.set('service', service);
    const found = await this.credentialsFor(endpoint);
    const login = found && loginIn(found.auth);
    const post = (grant: Record<string, string>) =>
      fetchToken(url, {
        authorization: undefined,
        form: new URLSearchParams([...asked, ['client_id', 'berth'], ...Object.entries(grant)]),
      });
    const get = async () => {
      const full = new URL(url);
      for (const [name, value] of asked) full.searchParams.set(name, value);
      return fetchToken(full, { authorization: await this.basic(endpoint), form: undefined });
    };
    // Token servers know one way, or the other, or both; GET is the older one.
    const identity = found?.auth.identityToken;
    const token = identity
      ? ((await post({ grant_type: 'refresh_token', refresh_token: identity })) ?? (login ? await get() : undefined))
      : ((await get()) ?? (login ? await post({ grant_type: 'password', ...login }) : undefined));
    if (token) return token;
    throw new BerthError('unavailable', `the token server ${url.origin} knows none of the ways to ask for a token`);
  }
}

function isGiven(auth: RegistryAuth | undefined): auth is RegistryAuth {
  return !!auth && !!(auth.username || auth.password || auth.auth || auth.identityToken || auth.registryToken);
}

function loginIn({ auth, username, password }: RegistryAuth): { username: string; password: string } | undefined {
  if (username) return { username, password: password ?? '' };
  if (!auth) return undefined;
  const text = Buffer.from(auth, 'base64').toString().replace(/\0+$/, '');
  const colon = text.indexOf(':');
  if (colon < 0)
    throw new BerthError('invalid_argument', 'the credentials are malformed: auth is not base64 of username:password');
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** The name that credentials log in with, if they tell one; never a secret. */
export function userIn(auth: RegistryAuth): string | undefined {
  return loginIn(auth)?.username;
}

/** The challenges of WWW-Authenticate headers (RFC 9110, 11.6.1); schemes we do not know are left out. */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  return headers.flatMap(header => {
    const starts = [...header.matchAll(/(?:^|,)\s*(basic|bearer)(?=\s|$|,)/gi)];
    return starts.map((start, i) => {
      const text = header.slice(start.index + start[0].length, starts[i + 1]?.index);
      const parameters = [...text.matchAll(/(?<![\w-])([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g)].map(
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
