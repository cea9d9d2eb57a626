import assert from 'node:assert/strict';
import fc from 'fast-check';
import { deviceProgram } from '../../../src/cgroup/device-program';
import { byFile, type DeviceRule } from '../../../src/cgroup/devices';
import { deviceRules } from '../../../src/oci/devices';

interface Asked {
  type: 'b' | 'c';
  major: number;
  minor: number;
  access: string;
}

const KIND = { b: 1, c: 2 };
const ACCESS: Record<string, number> = { m: 1, r: 2, w: 4 };
const bits = (access: string) => [...access].reduce((mask, letter) => mask | (ACCESS[letter] ?? 0), 0);

/** What the kernel's virtual machine would answer; throws where its verifier would refuse. */
function run(program: Buffer, asked: Asked): boolean {
  const context = Buffer.alloc(12);
  context.writeUInt32LE(((bits(asked.access) << 16) | KIND[asked.type]) >>> 0, 0);
  context.writeUInt32LE(asked.major, 4);
  context.writeUInt32LE(asked.minor, 8);
  const registers = new Map<number, number | 'context'>([[1, 'context']]);
  const read = (register: number) => {
    const value = registers.get(register);
    assert.ok(typeof value === 'number', `register ${register} is read before it is written`);
    return value;
  };
  for (let at = 0, steps = 0; steps < 10_000; steps++, at++) {
    assert.ok(at * 8 + 8 <= program.length, 'the program runs off its end');
    const [code, dst, src] = [program[at * 8]!, program[at * 8 + 1]! & 15, program[at * 8 + 1]! >> 4];
    const [offset, immediate] = [program.readInt16LE(at * 8 + 2), program.readInt32LE(at * 8 + 4)];
    assert.ok(offset >= 0, 'no jumps back');
    if (code === 0x61) {
      assert.equal(registers.get(src), 'context');
      registers.set(dst, context.readUInt32LE(offset));
    } else if (code === 0x54) registers.set(dst, (read(dst) & immediate) >>> 0);
    else if (code === 0x74) registers.set(dst, read(dst) >>> immediate);
    else if (code === 0xb4) registers.set(dst, immediate >>> 0);
    else if (code === 0xbc) registers.set(dst, read(src));
    else if (code === 0x15) at += read(dst) === immediate ? offset : 0;
    else if (code === 0x55) at += read(dst) !== immediate ? offset : 0;
    else if (code === 0x95) return read(0) === 1;
    else assert.fail(`instruction code 0x${code.toString(16)}`);
  }
  assert.fail('the program does not end');
}

/** Every instruction is reached by some way: the verifier refuses dead ones. */
function reachable(program: Buffer): boolean {
  const seen = new Set<number>();
  const next = [0];
  for (let at = next.pop(); at !== undefined; at = next.pop()) {
    if (seen.has(at)) continue;
    seen.add(at);
    const code = program[at * 8];
    if (code === 0x95) continue;
    next.push(at + 1);
    if (code === 0x15 || code === 0x55) next.push(at + 1 + program.readInt16LE(at * 8 + 2));
  }
  return seen.size === program.length / 8;
}

/** The rules as they are meant, in one sentence each. */
function expected(rules: readonly DeviceRule[], asked: Asked): boolean {
  const decides = rules.findLast(
    rule =>
      (rule.type === 'a' || rule.type === asked.type) &&
      (rule.major ?? asked.major) === asked.major &&
      (rule.minor ?? asked.minor) === asked.minor &&
      (rule.allow
        ? [...asked.access].every(letter => rule.access.includes(letter))
        : [...asked.access].some(letter => rule.access.includes(letter)) || rule.access === 'rwm'),
  );
  return decides?.allow ?? false;
}

const access = fc.constantFrom('r', 'w', 'm', 'rw', 'rm', 'wm', 'rwm');
const number = fc.constantFrom(0, 1, 2, 5, 136, 0xfffff);
const rule: fc.Arbitrary<DeviceRule> = fc.record(
  { allow: fc.boolean(), type: fc.constantFrom('a', 'b', 'c'), access, major: number, minor: number },
  { requiredKeys: ['allow', 'type', 'access'] },
);
const asked = fc.record({ type: fc.constantFrom('b', 'c'), major: number, minor: number, access });

describe('a device program', () => {
  it('answers as its rules say, whatever they are', () => {
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 12 }), asked, (rules, question) => {
        const program = deviceProgram(rules);
        assert.equal(run(program, question), expected(rules, question));
        assert.ok(reachable(program), 'dead instructions');
      }),
      { numRuns: 2000 },
    );
  });

  it('lets a container open its devices, make any node, and no more', () => {
    const loop: DeviceRule = { allow: true, type: 'b', major: 7, minor: 7, access: 'r' };
    const program = deviceProgram([...deviceRules([], false), loop]);
    const may = (type: 'b' | 'c', major: number, minor: number, how: string) =>
      run(program, { type, major, minor, access: how });
    assert.equal(may('c', 1, 3, 'rw'), true);
    assert.equal(may('c', 136, 12, 'rw'), true, 'a terminal');
    assert.equal(may('c', 5, 2, 'rw'), true, 'ptmx');
    assert.equal(may('c', 1, 1, 'm'), true, 'a node of the memory of the machine may be made');
    assert.equal(may('c', 1, 1, 'r'), false, 'but not read');
    assert.equal(may('b', 8, 0, 'm'), true);
    assert.equal(may('b', 8, 0, 'r'), false);
    assert.equal(may('b', 1, 3, 'r'), false, 'a block device with the numbers of null');
    assert.equal(may('b', 7, 7, 'r'), true);
    assert.equal(may('b', 7, 7, 'rw'), false);
  });

  it('is written to v1 as lines, deny before allow', () => {
    const [deny, allow, ...more] = byFile(deviceRules([], false));
    assert.deepEqual(deny, { file: 'devices.deny', lines: ['a'] });
    assert.equal(allow?.file, 'devices.allow');
    for (const line of ['c *:* m', 'b *:* m', 'c 1:3 rwm', 'c 136:* rwm', 'c 5:2 rwm']) {
      assert.ok(allow.lines.includes(line), line);
    }
    assert.deepEqual(more, []);
  });

  it('allows a privileged container everything', () => {
    const program = deviceProgram(deviceRules([], true));
    assert.equal(run(program, { type: 'b', major: 8, minor: 0, access: 'rwm' }), true);
    assert.ok(reachable(program));
  });
});
