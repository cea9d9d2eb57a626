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
}

/** Counts nothing, when nobody asked for an endpoint. */
export const noMetrics: Metrics = {
  pullStarted: () => undefined,
  pullEnded: () => undefined,
  bytesPulled: () => undefined,
  layerUnpacked: () => undefined,
  verifyFinding: () => undefined,
  rpcEnded: () => undefined,
};

/** What is asked when somebody reads the metrics. */
export interface Readings {
  images(): { count: number; usedBytes: bigint; inodes: bigint };
}
