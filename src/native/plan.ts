import { FieldWriter } from './fields';
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

function writeOp(out: FieldWriter, op: PlanOp): void {
  const shape: Shape = ALL_OPS[op.op];
  out.u32(shape.code);
  const lengthAt = out.length;
  out.u32(0);
  out.fields(shape, op);
  out.patchU32(lengthAt, out.length - lengthAt - 4);
}
