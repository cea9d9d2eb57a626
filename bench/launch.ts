import { berth, makeSetting, peers, type Candidate } from './container';
import { alternate, machine, median, ms, quantile, table, Timings } from './measure';
import { inScratch, roundsOr } from './scratch';

inScratch(async scratch => {
  const rounds = roundsOr(60);
  const setting = await makeSetting(scratch, 'pod');
  const parts = new Timings();
  const candidates = [berth(scratch, setting, parts), ...(await peers(scratch, setting))];
  const totals = new Timings();
  let index = 0;
  await alternate(candidates, { warmUp: 5, measured: rounds }, async (candidate, isMeasured) => {
    scratch.throwIfInterrupted();
    totals.isMeasuring = parts.isMeasuring = isMeasured;
    await totals.time(candidate.name, () => candidate.run(index++));
  });
  report(candidates, totals, parts, rounds);
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

function report(candidates: readonly Candidate[], totals: Timings, parts: Timings, rounds: number): void {
  const own = median(totals.of('berth'));
  console.log(`\ncreate + start + exit + removal of one container, ms; ${rounds} rounds; ${machine()}\n`);
  console.log(
    table(
      ['', 'median', 'p95', '÷ berth'],
      candidates.map(({ name, version }) => {
        const samples = totals.of(name);
        return [
          `${name} ${version}`,
          ms(median(samples)),
          ms(quantile(samples, 0.95)),
          (median(samples) / own).toFixed(1),
        ];
      }),
    ),
  );
  console.log('\nof which, in berth:\n');
  const rows = parts.names().map(name => [name, ms(median(parts.of(name))), ms(quantile(parts.of(name), 0.95))]);
  console.log(table(['', 'median', 'p95'], rows));
}
