import type { Logger } from '../base/log';
import type { ContainerId } from '../base/ids';

/**
 * Output that is in no log, since that could not be written (a full disk). Its container goes on; its log says what is
 * missing once there is room, its monitor tells the daemon, and here it is counted.
 */
export class LogDrops {
  private readonly byContainer = new Map<ContainerId, bigint>();
  private total = 0n;

  constructor(private readonly log: Logger) {}

  /** Bytes of output, of all containers that this daemon has known; it only grows. */
  get totalBytes(): bigint {
    return this.total;
  }

  /** So many bytes were lost of a container's output until now. */
  note(id: ContainerId, bytes: bigint, why?: string): void {
    const before = this.byContainer.get(id) ?? 0n;
    if (bytes <= before) return;
    this.total += bytes - before;
    this.byContainer.set(id, bytes);
    if (before > 0n) return;
    const reason = why === undefined ? '' : ` (${why})`;
    this.log.warn(`the log of a container cannot be written${reason}: its output is lost, and it goes on`, {
      container: id,
    });
  }

  /** The container is removed. */
  forget(id: ContainerId): void {
    this.byContainer.delete(id);
  }
}
