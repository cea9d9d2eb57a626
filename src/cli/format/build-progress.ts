import { StringDecoder } from 'node:string_decoder';
import { BuildStep_State as State, type BuildLog, type BuildStep } from '../../cri/generated/berth/v1/build';
import { printable } from './printable';
import { Redrawn, type Screen } from './redrawn';

/** Shows how far a build is. */
export interface BuildDisplay {
  step(step: BuildStep): void;
  log(log: BuildLog): void;
  warning(text: string): void;
  /** No more steps come, whether the build has succeeded or not. */
  ended(): void;
  done(imageId: string, names: readonly string[]): void;
}

/** Steps that are redrawn on a terminal, a line for each thing that happens elsewhere, nothing when quiet. */
export function buildDisplay(screen: Screen, kind: 'auto' | 'plain' | 'tty' | 'quiet'): BuildDisplay {
  if (kind === 'quiet')
    return {
      ...{ step: () => undefined, log: () => undefined, warning: () => undefined },
      ...{ ended: () => undefined, done: () => undefined },
    };
  const isDrawn = kind === 'tty' || (kind === 'auto' && screen.isTTY);
  return isDrawn ? new Drawn(screen) : new Plain(screen);
}

/** What steps have written, as text: a character may come in two pieces, and between them what is of the other stream. */
class Texts {
  /** By step and stream. */
  private readonly decoders = new Map<number, Map<number, StringDecoder>>();

  of({ step, stream, data }: BuildLog): string {
    const ofStep = this.decoders.get(step) ?? new Map<number, StringDecoder>();
    const decoder = ofStep.get(stream) ?? new StringDecoder('utf8');
    this.decoders.set(step, ofStep.set(stream, decoder));
    return decoder.write(data);
  }

  /** What is left of a step: characters whose end never came. */
  end(step: number): string {
    const decoders = [...(this.decoders.get(step)?.values() ?? [])];
    this.decoders.delete(step);
    return decoders.map(decoder => decoder.end()).join('');
  }
}

class Plain implements BuildDisplay {
  private readonly texts = new Texts();
  private readonly unfinished = new Map<number, string>();

  constructor(private readonly screen: Screen) {}

  step({ id, name, state, durationMs, why }: BuildStep): void {
    if (state === State.STARTED) return this.line(id, printable(name));
    this.flush(id);
    if (why !== '') this.line(id, `${state === State.CACHED ? 'cached' : 'not cached'}: ${printable(why)}`);
    if (state === State.CACHED) this.line(id, 'CACHED');
    if (state === State.DONE) this.line(id, `DONE ${seconds(durationMs)}`);
    if (state === State.FAILED) this.line(id, 'ERROR');
  }

  log(log: BuildLog): void {
    const { step } = log;
    const lines = ((this.unfinished.get(step) ?? '') + this.texts.of(log)).split('\n');
    this.unfinished.set(step, lines.pop() ?? '');
    for (const line of lines) this.line(step, printable(line.replace(/\r$/, '')));
  }

  warning(text: string): void {
    this.screen.write(warningText(text));
  }

  ended(): void {
    // All has been said.
  }

  done(imageId: string, names: readonly string[]): void {
    this.screen.write(endText(imageId, names));
  }

  private flush(id: number): void {
    const rest = (this.unfinished.get(id) ?? '') + this.texts.end(id);
    this.unfinished.delete(id);
    if (rest !== '') this.line(id, printable(rest));
  }

  private line(id: number, text: string): void {
    this.screen.write(`#${id} ${text}\n`);
  }
}

/** Lines of a running step's output that are shown below it. */
const shownLines = 5;

class Drawn implements BuildDisplay {
  private readonly steps = new Map<number, BuildStep>();
  private readonly output = new Map<number, string>();
  private readonly texts = new Texts();
  private readonly warnings: string[] = [];
  private readonly lines: Redrawn;

  constructor(private readonly screen: Screen) {
    this.lines = new Redrawn(screen);
  }

  step(step: BuildStep): void {
    this.steps.set(step.id, step);
    this.draw();
  }

  log(log: BuildLog): void {
    this.output.set(log.step, ((this.output.get(log.step) ?? '') + this.texts.of(log)).slice(-4000));
    this.draw();
  }

  /** Whole, and below the steps: between them it would be drawn over, and be cut to a line. */
  warning(text: string): void {
    this.warnings.push(text);
  }

  ended(): void {
    for (const text of this.warnings.splice(0)) this.screen.write(warningText(text));
  }

  done(imageId: string, names: readonly string[]): void {
    this.screen.write(endText(imageId, names));
  }

  private draw(): void {
    this.lines.draw([...this.steps.values()].flatMap(step => [head(step), ...this.below(step)]));
  }

  private below({ id, state }: BuildStep): string[] {
    if (state !== State.STARTED && state !== State.FAILED) return [];
    const lines = (this.output.get(id) ?? '').trimEnd().split('\n').slice(-shownLines);
    return lines.filter(line => line !== '').map(line => ` => => ${printable(line)}`);
  }
}

const words: Readonly<Record<number, string>> = { [State.CACHED]: 'CACHED ', [State.FAILED]: 'ERROR ' };

function head({ name, state, durationMs, why }: BuildStep): string {
  const end = state === State.DONE ? `  ${seconds(durationMs)}` : '';
  return ` => ${words[state] ?? ''}${printable(name)}${end}${why === '' ? '' : `  (${printable(why)})`}`;
}

function seconds(ms: bigint): string {
  return `${(Number(ms) / 1000).toFixed(1)}s`;
}

function warningText(text: string): string {
  return `warning: ${printable(text)}\n`;
}

function endText(imageId: string, names: readonly string[]): string {
  return [`Built ${imageId}`, ...names.map(name => `Tagged ${name}`)].map(line => `${line}\n`).join('');
}
