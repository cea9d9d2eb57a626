import { credentials } from '@grpc/grpc-js';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { RuntimeServiceClient } from '../src/cri';

/*
 * A thread of its own, with a connection of its own, that asks a daemon for its version
 * every few milliseconds until it is told to end: what it measures is not delayed by
 * what the benchmark does meanwhile. Its message is a list of milliseconds.
 */

const EVERY_MS = 5;

const client = new RuntimeServiceClient(`unix:${String(workerData)}`, credentials.createInsecure());
const samples: number[] = [];
let isEnding = false;
parentPort?.once('message', () => (isEnding = true));

async function ask(): Promise<void> {
  while (!isEnding) {
    const begin = performance.now();
    await new Promise<void>((resolve, reject) =>
      client.version({ version: 'v1' }, error => (error ? reject(error) : resolve())),
    );
    samples.push(performance.now() - begin);
    await sleep(EVERY_MS);
  }
  client.close();
  parentPort?.postMessage(samples);
}

void ask();
