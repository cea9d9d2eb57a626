import { BerthError } from '../base/errors';
import type { Sandboxes } from '../sandbox/sandboxes';
import type { IdRange } from './person-config';

/** Ids of people's user namespaces begin here: above those of the node's users and of the kubelet's pods. */
const FIRST_ID = 2 ** 31;
const IDS_PER_POD = 65_536;
const LAST_ID = 2 ** 32 - 2;

/** Ids on the node for `--userns auto`: of each pod's its own. */
export class OwnIds {
  /** Of pods that have no record yet. */
  private readonly taken = new Set<IdRange>();

  constructor(private readonly sandboxes: Pick<Sandboxes, 'list'>) {}

  /**
   * So many as `usernsMode` asks for and no other pod has; no range for the node's user namespace. They are kept for the
   * caller until this is disposed: by then its pod has a record, or there is none.
   */
  take(usernsMode: string): { range: IdRange | undefined } & Disposable {
    const range = this.free(usernsMode);
    if (range) this.taken.add(range);
    return { range, [Symbol.dispose]: () => range && this.taken.delete(range) };
  }

  private free(usernsMode: string): IdRange | undefined {
    if (usernsMode === '' || usernsMode === 'host') return undefined;
    const count = countOf(usernsMode);
    const ofPods = this.sandboxes
      .list()
      .flatMap(({ record: { userns } }) => (userns ? [userns.uid, userns.gid] : []))
      .concat([...this.taken])
      .sort((a, b) => a.first - b.first);
    let first = FIRST_ID;
    for (const range of ofPods) if (range.first < first + count) first = Math.max(first, range.first + range.count);
    if (first + count - 1 > LAST_ID) throw new BerthError('resource_exhausted', '--userns auto: no ids are left');
    return { first, count };
  }
}

function countOf(usernsMode: string): number {
  const [, size = String(IDS_PER_POD)] = /^auto(?::size=(\d{1,9}))?$/.exec(usernsMode) ?? [undefined, '0'];
  const count = Number(size);
  if (count >= 1) return count;
  throw new BerthError('invalid_argument', `--userns ${usernsMode} is not known`, {
    hint: 'it is host, auto or auto:size=65536',
  });
}
