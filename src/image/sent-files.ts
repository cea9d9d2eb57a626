import { open } from 'node:fs/promises';
import { scan, scanArchive, type Scanned, type ScanRequest } from './unpack/scan';

/**
 * Files that a client has sent as a tar, in a file of ours. A build that finds all of its steps in the cache looks at them
 * and no more, so that they are looked at where they are: making thousands of files, reading and removing them again is
 * most of what such a build would do.
 */
export class SentFiles {
  private unpacked: Promise<string> | undefined;

  /** `unpack` makes a directory of them, which stays as long as the tar; `nothing` are ones with nothing in them. */
  constructor(
    private readonly path: string,
    private readonly nothing: readonly string[],
    private readonly unpack: () => Promise<string>,
  ) {}

  /** The directory with the files, made when it is first asked for. */
  dir(): Promise<string> {
    this.unpacked ??= this.unpack();
    return this.unpacked;
  }

  /** What is at each path. An archive that not everybody would unpack alike is unpacked, and its directory is looked at. */
  async scan(request: Omit<ScanRequest, 'dirs'>, signal: AbortSignal): Promise<Scanned> {
    await using file = await open(this.path, 'r');
    const found = await scanArchive(file, { ...request, dirs: this.nothing }, signal);
    return found ?? (await scan({ ...request, dirs: [await this.dir()] }, signal));
  }
}
