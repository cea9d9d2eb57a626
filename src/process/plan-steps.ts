import type { LaunchPlan, PlanOp, PlanSection } from '../native/plan-ops';
import { planIn } from './monitor';

/** One operation of a launch plan and its fields, as JSON can have them. */
export interface PlanStep {
  section: PlanSection;
  op: PlanOp['op'];
  [field: string]: unknown;
}

/** The launch plan of the monitor in this state directory, in the order of its steps; empty when it is not kept any more (a reboot). */
export function planSteps(stateDir: string): PlanStep[] {
  const plan = planIn(stateDir);
  return plan ? [...stepsOf(plan, 'outer'), ...stepsOf(plan, 'inner')] : [];
}

function stepsOf(plan: LaunchPlan, section: PlanSection): PlanStep[] {
  return plan[section].map(step => {
    const fields = Object.entries(step).map(([name, value]): [string, unknown] => [name, shown(value)]);
    return { section, ...Object.fromEntries(fields) } as PlanStep;
  });
}

/** Flags are read in hexadecimal. */
function shown(value: unknown): unknown {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  return Buffer.isBuffer(value) ? value.toString('base64') : value;
}

/** A few words for each step of a plan that was kept: its operation and what it is done to. */
export function stepTitles(stateDir: string): Record<PlanSection, string[]> {
  const plan = planIn(stateDir);
  return { outer: plan?.outer.map(title) ?? [], inner: plan?.inner.map(title) ?? [] };
}

function title(step: PlanOp): string {
  const fields: Readonly<Record<string, unknown>> = step;
  const what = ['target', 'path', 'dir', 'tasks', 'file', 'name', 'cwd'].map(name => fields[name]);
  const found = what.find(value => typeof value === 'string' && value !== '');
  return typeof found === 'string' ? `${step.op} ${found}` : step.op;
}
