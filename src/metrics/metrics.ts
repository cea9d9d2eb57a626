/**
 * What is counted. Labels take values of small, fixed sets only: a name that a
 * stranger chose would be a time series for good.
 */
export interface Metrics {
  pullStarted(): void;
  pullEnded(
    operation: 'pull' | 'load' | 'import',
    outcome: 'succeeded' | 'failed' | 'cancelled',
    seconds: number,
  ): void;
  bytesPulled(bytes: number): void;
  layerUnpacked(): void;
  /** Something that a check of the store found. */
  verifyFinding(kind: string): void;
  rpcEnded(service: string, method: string, code: string, seconds: number): void;
  /** Of a call's work: `CreateContainer`, `make the spec`. */
  stepEnded(work: string, step: string, seconds: number): void;
  cgroupCallEnded(operation: string, seconds: number): void;
  /** A network plugin has ended: ADD, DEL. */
  cniPluginEnded(command: string, plugin: string, outcome: 'succeeded' | 'failed', seconds: number): void;
  /** Something has happened to a container, pod or image. */
  eventTold(type: string, action: string): void;
}

/** Counts nothing, when nobody asked for an endpoint. */
export const noMetrics: Metrics = {
  pullStarted: () => undefined,
  pullEnded: () => undefined,
  bytesPulled: () => undefined,
  layerUnpacked: () => undefined,
  verifyFinding: () => undefined,
  rpcEnded: () => undefined,
  stepEnded: () => undefined,
  cgroupCallEnded: () => undefined,
  cniPluginEnded: () => undefined,
  eventTold: () => undefined,
};

/** What is asked when somebody reads the metrics. */
export interface Readings {
  images(): { count: number; usedBytes: bigint; inodes: bigint };
  /** Of all pulls that run. */
  pulls(): { receivedBytes: number; expectedBytes: number };
  /** By state. */
  pods(): Iterable<string>;
  containers(): Iterable<string>;
  /** Containers that have a monitor. */
  monitors(): number;
  /** What has been seen to be written to containers' logs since the daemon began. */
  logBytes(): Promise<number>;
  /** Output that could not be written to them. */
  droppedLogBytes(): number;
}
