import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodePlan, encodePlan, PLAN_MAGIC } from '../../../src/native/plan';
import { ALL_OPS, DAEMON_MESSAGES, HELPER_MESSAGES, type LaunchPlan, type Shape } from '../../../src/native/plan-ops';
import { MOUNT_FLAGS } from '../../../src/oci/linux';
import { repoRoot } from '../../support/repo';

const source = (path: string) => readFileSync(join(repoRoot, 'native', path), 'utf8');

/** `OP(NAME, code, "field:type …")` of a .def file as TypeScript has it. */
function shapesIn(path: string, macro: string): Record<string, Shape> {
  const shapes: Record<string, Shape> = {};
  const lines = source(path).matchAll(new RegExp(`^${macro}\\((\\w+), (\\d+), "([^"]*)"\\)`, 'gm'));
  for (const [, name = '', code = '', fields = ''] of lines) {
    const pairs = fields.split(' ').filter(pair => pair !== '');
    shapes[name] = {
      code: Number(code),
      fields: Object.fromEntries(pairs.map(pair => pair.split(':') as [string, 'u32'])),
    };
  }
  return shapes;
}

/** With the order of fields, which deepEqual does not look at. */
function flat(shapes: Readonly<Record<string, Shape>>): string[] {
  return Object.entries(shapes)
    .map(([name, { code, fields }]) => `${name} ${code} ${Object.entries(fields).join(' ')}`)
    .sort();
}

const camelCase = (name: string) => name.toLowerCase().replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

describe('the contract with the helper', () => {
  it('has the same operations on both sides', () => {
    const theirs = shapesIn('lib/plan.def', 'OP');
    assert.ok(Object.keys(theirs).length > 30);
    assert.deepEqual(flat(ALL_OPS), flat(theirs));
  });

  it('has the same messages on both sides', () => {
    assert.deepEqual(flat({ ...HELPER_MESSAGES, ...DAEMON_MESSAGES }), flat(shapesIn('lib/wire.def', 'MSG')));
  });

  it('gives no code twice', () => {
    for (const table of [ALL_OPS, { ...HELPER_MESSAGES, ...DAEMON_MESSAGES }]) {
      const codes = Object.values<Shape>(table).map(({ code }) => code);
      assert.equal(new Set(codes).size, codes.length);
    }
  });

  it('has the same magic number and the same flags of mounts', () => {
    const magic = /#define PLAN_MAGIC (0x[0-9a-f]+)u/.exec(source('lib/plan.h'))?.[1];
    assert.equal(PLAN_MAGIC, Number(magic));
    const flags = /enum mount_flags \{([^}]*)\}/.exec(source('helper/helper.h'))?.[1] ?? '';
    const theirs = Object.fromEntries(
      [...flags.matchAll(/(\w+) = (\d+)/g)].map(([, name = '', value]) => [camelCase(name), Number(value)]),
    );
    assert.deepEqual(theirs, { ...MOUNT_FLAGS });
  });

  it('lays a plan out as the helper reads it', () => {
    const bytes = encodePlan({
      outer: [{ op: 'UNSHARE', flags: 0x04000000 }],
      inner: [{ op: 'SYSCTL', path: 'a/b', value: Buffer.from([0xff]) }, { op: 'AWAIT_GO' }],
    });
    const words = [
      '42504c31',
      '0c000000',
      '20000000',
      '00000000', // "BPL1", bytes of both sections, reserved
      '11000000',
      '04000000',
      '00000004',
      '14000000',
      '10000000',
      '03000000',
      '612f6200',
      '01000000',
      'ff000000',
      '2e000000',
      '00000000',
    ];
    assert.equal(bytes.toString('hex'), words.join(''));
  });

  it('reads a plan back, and refuses what is none', () => {
    const plan: LaunchPlan = {
      outer: [
        { op: 'CLONE_FLAGS', flags: 0x20000n },
        { op: 'LOG', path: '/log', maxLine: 0 },
      ],
      inner: [
        { op: 'ROOT_OVERLAY', stage: '/s', upper: '/u', work: '/w', flags: 1, lowers: ['/a', '/b'] },
        { op: 'EXEC', candidates: ['/bin/sh'], argv: ['sh', ''], envp: [], addHome: 1 },
      ],
    };
    assert.deepEqual(decodePlan(encodePlan(plan)), plan);
    assert.throws(() => decodePlan(Buffer.from('BPL2, or something else')), /no launch plan/);
    assert.throws(() => decodePlan(Buffer.alloc(0)), /no launch plan/);
  });
});
