/**
 * What the daemon's main thread and its HTTP thread say to each other. All of
 * it is plain data. The main thread asks, each request under an id of its own;
 * the HTTP thread answers each `send` and each `pipe` once.
 */

import type { ProxySettings } from './proxies';

/** PEM texts, not paths: a file is read once, by whoever knows what it is for. */
export interface TlsMaterial {
  /** Trusted besides the authorities of the system. */
  readonly authorities: readonly string[];
  /** Shown to the origin that was asked, never to where a redirect leads. */
  readonly clients: readonly { readonly cert: string; readonly key: string }[];
  readonly skipVerify: boolean;
}

/** Another host may have the same authority, but it gets neither our certificate nor blind trust. */
export function withoutSecrets({ authorities }: TlsMaterial): TlsMaterial {
  return { authorities, clients: [], skipVerify: false };
}

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH';
  readonly url: string;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  /** These and `authorization` go to the origin of `url` only, whatever redirects say. */
  readonly ownHeaders?: Readonly<Record<string, string | readonly string[]>>;
  readonly authorization?: string | undefined;
  /** A form, or a document. It may hold a secret, and so follows no redirect. */
  readonly body?: string | Uint8Array;
  /** A part of a file as the body; `Transport` gives the HTTP thread a descriptor of its own. */
  readonly upload?: { readonly fd: number; readonly offset: number; readonly bytes: number } | undefined;
  readonly tls?: TlsMaterial | undefined;
  readonly connectTimeoutMs?: number | undefined;
  /** No headers, or next to nothing of a body, within this time: the connection is dead. The whole may take any time. */
  readonly progressTimeoutMs: number;
  /** Bytes of a good answer's body that are taken; more is an error. */
  readonly bodyBytesMax: number;
  /** Leaves the body of a 200 or 206 for `pipe`. */
  readonly stream: boolean;
  readonly proxies: ProxySettings;
}

export interface HttpAnswer {
  /** Of whoever answered in the end: it is another one where a redirect has led away. */
  readonly origin: string;
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  /** Of an answer that is no success the first few kB; empty for one to be streamed. */
  readonly body: Uint8Array;
  /** Larger than `bodyBytesMax`. */
  readonly tooLong: boolean;
  /** The body waits for `pipe` or `drop`. */
  readonly streamed: boolean;
}

/** An error as it can be posted. */
export interface SentError {
  readonly message: string;
  readonly code: string | undefined;
}

export type Ask =
  | { readonly do: 'send'; readonly id: number; readonly request: HttpRequest }
  /** Writes the body into `fd`, which belongs to the HTTP thread from then on. */
  | { readonly do: 'pipe'; readonly id: number; readonly fd: number }
  /** Gives the request or its body up; no answer comes to what was asked. */
  | { readonly do: 'drop'; readonly id: number }
  | { readonly do: 'end' };

export type Tell =
  | { readonly tell: 'answer'; readonly id: number; readonly answer: HttpAnswer }
  | { readonly tell: 'adopted'; readonly id: number }
  | { readonly tell: 'piped'; readonly id: number }
  /** So many bytes of an upload are on their way. */
  | { readonly tell: 'uploaded'; readonly id: number; readonly bytes: number }
  | { readonly tell: 'failed'; readonly id: number; readonly error: SentError };
