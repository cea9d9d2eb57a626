import { BerthError } from '../base/errors';
import { FieldWriter, readFields } from './fields';
import { ALL_OPS, type LaunchPlan, type PlanOp, type Shape } from './plan-ops';

/** "BPL1", the first four bytes of every plan. */
export const PLAN_MAGIC = 0x314c5042;

const HEADER_BYTES = 16;

/** The bytes that a helper executes; layout in native/README.md. */
export function encodePlan(plan: LaunchPlan): Buffer {
  const out = new FieldWriter();
  for (let i = 0; i < HEADER_BYTES; i += 4) out.u32(0);
  for (const op of plan.outer) writeOp(out, op);
  const outerEnd = out.length;
  for (const op of plan.inner) writeOp(out, op);
  out.patchU32(0, PLAN_MAGIC);
  out.patchU32(4, outerEnd - HEADER_BYTES);
  out.patchU32(8, out.length - outerEnd);
  return out.done();
}

const OP_OF_CODE = new Map<number, keyof typeof ALL_OPS>(
  Object.entries(ALL_OPS).map(([name, shape]) => [shape.code, name as keyof typeof ALL_OPS]),
);

/** The plan that `encodePlan` made these bytes of, for people to read: what are bytes in it has become text. */
export function decodePlan(bytes: Buffer): LaunchPlan {
  const isPlan = bytes.length >= HEADER_BYTES && bytes.readUInt32LE(0) === PLAN_MAGIC;
  if (!isPlan) throw new BerthError('internal', 'these bytes are no launch plan');
  const outerEnd = HEADER_BYTES + bytes.readUInt32LE(4);
  const outer = readOps(bytes.subarray(HEADER_BYTES, outerEnd)) as LaunchPlan['outer'];
  return { outer, inner: readOps(bytes.subarray(outerEnd)) as LaunchPlan['inner'] };
}

function readOps(section: Buffer): PlanOp[] {
  const ops: PlanOp[] = [];
  for (let at = 0; at + 8 <= section.length;) {
    const [code, length] = [section.readUInt32LE(at), section.readUInt32LE(at + 4)];
    const op = OP_OF_CODE.get(code);
    if (op === undefined) throw new BerthError('internal', `a launch plan has the unknown operation ${code}`);
    ops.push({ op, ...readFields(ALL_OPS[op], section.subarray(at + 8, at + 8 + length)) } as PlanOp);
    at += 8 + length;
  }
  return ops;
}

function writeOp(out: FieldWriter, op: PlanOp): void {
  const shape: Shape = ALL_OPS[op.op];
  out.u32(shape.code);
  const lengthAt = out.length;
  out.u32(0);
  out.fields(shape, op);
  out.patchU32(lengthAt, out.length - lengthAt - 4);
}
