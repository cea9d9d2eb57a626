import type { Steps } from '../base/steps';
import { micros, type Lap, type Stopwatch } from '../base/stopwatch';
import type { LaunchTimes } from '../process/monitor';
import { stepTitles } from '../process/plan-steps';
import type { Container, Containers } from './containers';

/** Where the time of a container's calls went, as its record has it. */
export interface ContainerTimings {
  create: readonly Lap[];
  /** What the monitor and init did within `create`. */
  launch?: LaunchLaps;
  start?: readonly Lap[];
}

/** A monitor's times as microseconds after the creation began; steps have four bytes each, of nanoseconds. */
export interface LaunchLaps {
  beganUs: number;
  clonedUs: number;
  initUs: number;
  readyUs: number;
  outer: Buffer;
  inner: Buffer;
}

/** One line of what `berth inspect --timings` shows. */
export interface TimingRow extends Lap {
  /** The call of the CRI that it is part of. */
  call: 'RunPodSandbox' | 'CreateContainer' | 'StartContainer';
  /** Who did it. */
  by: 'daemon' | 'monitor' | 'init';
}

/** The times of a launch, counted from where the creation began. */
export function launchLaps(times: LaunchTimes, watch: Stopwatch): LaunchLaps {
  const us = (ns: bigint) => micros(ns - watch.beganNs);
  return {
    beganUs: us(times.beganNs),
    clonedUs: us(times.clonedNs),
    initUs: us(times.initNs),
    readyUs: us(times.readyNs),
    outer: times.outer,
    inner: times.inner,
  };
}

/** Tells of what the monitor and init did while the daemon waited. */
export function tellLaunch(steps: Steps, { beganNs, clonedNs, initNs, readyNs }: LaunchTimes): void {
  steps.step('CreateContainer', 'monitor: begin, and what needs the host', beganNs, clonedNs);
  steps.step('CreateContainer', 'init: be cloned, go into the cgroups', clonedNs, initNs);
  steps.step('CreateContainer', 'init: set the container up', initNs, readyNs);
}

/** Step by step, from RunPodSandbox to the running command; what was not measured is left out. */
export function timingRows(containers: Containers, { record }: Container): TimingRow[] {
  const { create = [], launch, start = [] } = record.timings ?? {};
  const pod = containers.sandboxes.find(record.sandboxId)?.record.timings ?? [];
  const byDaemon = (call: TimingRow['call'], laps: readonly Lap[]) =>
    laps.map((lap): TimingRow => ({ call, by: 'daemon', ...lap }));
  const launched = launch ? launchRows(launch, containers.paths(record.id).stateDir) : [];
  return [
    ...byDaemon('RunPodSandbox', pod),
    ...[...byDaemon('CreateContainer', create), ...launched].sort((a, b) => a.atUs - b.atUs),
    ...byDaemon('StartContainer', start),
  ];
}

function launchRows(launch: LaunchLaps, stateDir: string): TimingRow[] {
  const titles = stepTitles(stateDir);
  const outer = nanoseconds(launch.outer);
  const inner = nanoseconds(launch.inner);
  const outerUs = sum(outer) / 1000;
  const innerEndUs = launch.initUs + sum(inner) / 1000;
  const own = launch.clonedUs - launch.beganUs - outerUs;
  const row = (by: TimingRow['by'], step: string, atUs: number, us: number): TimingRow => ({
    call: 'CreateContainer',
    by,
    step,
    atUs: Math.round(atUs),
    us: Math.round(us),
  });
  return [
    row('monitor', 'its plan', launch.beganUs, own),
    ...steps(outer, launch.beganUs + own, titles.outer, 'monitor'),
    row('init', 'is cloned, and goes into its cgroups', launch.clonedUs, launch.initUs - launch.clonedUs),
    ...steps(inner, launch.initUs, titles.inner, 'init'),
    row('monitor', 'hears that init waits', innerEndUs, launch.readyUs - innerEndUs),
  ];
}

function steps(ns: readonly number[], fromUs: number, titles: readonly string[], by: TimingRow['by']): TimingRow[] {
  let at = fromUs;
  return ns.map((took, i) => {
    const row: TimingRow = {
      call: 'CreateContainer',
      by,
      step: titles[i] ?? `step ${i}`,
      atUs: Math.round(at),
      us: Math.round(took / 1000),
    };
    at += took / 1000;
    return row;
  });
}

function nanoseconds(packed: Buffer): number[] {
  return Array.from({ length: packed.length / 4 }, (_, i) => packed.readUInt32LE(i * 4));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
