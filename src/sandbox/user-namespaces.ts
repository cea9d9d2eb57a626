import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../base/errors';
import { randomHexId } from '../base/ids';
import type { Logger } from '../base/log';
import { probePlan } from '../oci/user-namespace';
import { pinNamespaces } from '../process/pin';

/** Whether this host can run pods in user namespaces. It is tried as a container would do it, on the disk where they will be. */
export class UserNamespaceSupport {
  private answer: Promise<string | undefined> | undefined;

  /** `layersDir` holds `empty`, an empty layer; in `scratchDir` a directory is made for a moment. */
  constructor(
    private readonly layersDir: string,
    private readonly scratchDir: string,
    private readonly log: Logger,
  ) {}

  /** Why not; undefined when it can. What can be is not tried again, what cannot be is: an administrator may help. */
  async missing(): Promise<string | undefined> {
    this.answer ??= this.probe();
    const reason = await this.answer;
    if (reason !== undefined) this.answer = undefined;
    return reason;
  }

  private async probe(): Promise<string | undefined> {
    const dir = join(this.scratchDir, `probe-${randomHexId().slice(0, 16)}`);
    try {
      for (const name of ['stage', 'upper', 'work']) await mkdir(join(dir, name), { recursive: true, mode: 0o700 });
      const pinned = await pinNamespaces(probePlan(this.layersDir, dir), 'probe');
      pinned.release();
      return undefined;
    } catch (error) {
      this.log.warn(`pods cannot have user namespaces on this host: ${messageOf(error)}`);
      return messageOf(error);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }
}
