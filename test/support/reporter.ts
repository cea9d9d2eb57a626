import { leftOpen } from './left-open';
import { formatTally } from './tally';

/** Tests that take longer show their time. */
const slowMs = 200;
const SHOULD_END_WITHIN_MS = 20_000;

/** Mocha's reporter: the tree of suites and tests, each failure in full at the end, the tally as last line. */
class Reporter {
  private readonly tally = { passed: 0, failed: 0, skipped: 0 };
  private readonly failures: string[] = [];
  private depth = 0;

  constructor(runner: Mocha.Runner) {
    runner.on('suite', suite => {
      if (!suite.root) this.say(suite.title);
      this.depth += suite.root ? 0 : 1;
    });
    runner.on('suite end', suite => {
      this.depth -= suite.root ? 0 : 1;
    });
    runner.on('pass', test => {
      this.tally.passed++;
      const took = test.duration !== undefined && test.duration >= slowMs ? ` (${test.duration} ms)` : '';
      this.say(`✓ ${test.title}${took}`);
    });
    runner.on('pending', test => {
      this.tally.skipped++;
      this.say(`- ${test.title}`);
    });
    runner.on('fail', (test, error: unknown) => {
      this.tally.failed++;
      this.say(`✗ ${test.title}`);
      this.failures.push(`✗ ${test.fullTitle()}\n${indent(describeError(error))}`);
    });
    runner.once('end', () => {
      console.log(['', ...this.failures, formatTally(this.tally)].join('\n'));
      // It keeps nothing open itself: it is only met where something else does.
      setTimeout(() => console.log(['Left open:', ...leftOpen()].join('\n    ')), SHOULD_END_WITHIN_MS).unref();
    });
  }

  private say(line: string): void {
    console.log(`${'  '.repeat(this.depth)}${line}`);
  }
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return `thrown: ${String(error)}`;
  const text = error.stack ?? error.message;
  return error.cause === undefined ? text : `${text}\ncaused by ${describeError(error.cause)}`;
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '    ');
}

export = Reporter;
