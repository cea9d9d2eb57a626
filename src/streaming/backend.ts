import type { Duplex, Writable } from 'node:stream';

/*
 * What the streaming server asks of the rest of the daemon. It knows requests
 * by the token only, which stands for one of these.
 */

/** In characters. */
export interface TerminalSize {
  columns: number;
  rows: number;
}

/**
 * A returned promise holds the output back until it settles; it never rejects. The chunk's memory is used for another one
 * once it has settled, or at once where there is none.
 */
export type Sink = (stream: 'stdout' | 'stderr', chunk: Buffer) => void | Promise<void>;

/** A command that runs, or a container that is attached to. */
export interface RemoteProcess {
  /** Absent when it has none; it may be closed at any time. */
  stdin: Writable | undefined;
  /** Settles once all output has been handed to the sink: with the exit code, or `undefined` when there is none to tell. */
  ended: Promise<number | undefined>;
  resize(size: TerminalSize): void;
}

/** Of an Exec or Attach request. */
export interface CommandTarget {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
  /** Starts the command, or attaches; `signal` aborts when the client has gone. Rejects with a sentence for the client. */
  open(sink: Sink, signal: AbortSignal): Promise<RemoteProcess>;
}

/** Of a PortForward request. */
export interface ForwardTarget {
  /** The only ports that are allowed; empty: all. */
  readonly ports: readonly number[];
  /** A connection to a port of the pod's localhost. Rejects with a sentence for the client. */
  connect(port: number): Promise<Duplex>;
}

export type Target =
  { kind: 'exec' | 'attach'; command: CommandTarget } | { kind: 'portforward'; forward: ForwardTarget };

export interface Limits {
  /** A connection on which nothing moves for so long is closed. */
  idleMs: number;
  /** A client has this long to open all of the streams that its request is for. */
  creationMs: number;
}
