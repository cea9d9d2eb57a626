import { writeSync } from 'node:fs';
import { silentLogger } from '../../../src/base/log';
import { openStore } from '../../../src/store/store';

interface Thing {
  version: 1;
  name: string;
  startedAtNs: bigint;
}

/** Run by store.test.ts and killed: writes records for ever, and prints how many were acknowledged. */
async function writeForEver(dir: string, journal: string | undefined): Promise<void> {
  const store = openStore(dir, silentLogger, journal);
  const things = journal === undefined ? store.table<Thing>('things', 1) : store.quickTable<Thing>('things', 1);
  for (let i = 0; ; i++) {
    await things.put(`k${i}`, { version: 1, name: String(i), startedAtNs: BigInt(i) });
    writeSync(1, `${i + 1}\n`);
  }
}

if (process.argv[2] !== undefined) void writeForEver(process.argv[2], process.argv[3]);
