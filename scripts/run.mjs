/**
 * `make run`: starts a daemon of its own, runs one container, and takes everything away again.
 *
 *   IMAGE=registry/name:tag   pulls this image; without it, a small one is made here and imported
 *   ROOT=dir STATE=dir        where the daemon keeps its things; without them, a fresh directory, which goes in the end
 *   STAY=1                    leaves the daemon running
 */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { makeHelloImage } from './hello-image.mjs';

const repo = join(dirname(fileURLToPath(import.meta.url)), '..');
const program = name => join(repo, 'bin', name);
const helloName = 'localhost/hello:latest';
const readyWithinMs = 20_000;

const { IMAGE: image = '', ROOT: givenRoot = '', STATE: givenState = '', STAY: stay = '' } = process.env;
const own = mkdtempSync('/tmp/berth-run-');
const root = givenRoot === '' ? join(own, 'root') : resolve(givenRoot);
const state = givenState === '' ? join(own, 'state') : resolve(givenState);
const host = `unix://${state}/berth.sock`;
const container = `run-${process.pid}`;
/** What a network of berth's own turns on and leaves so: somebody else may need it by then. */
const forwarding = ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding'];
const wasOff = forwarding.filter(name => valueOf(name) === '0');
const say = text => console.log(`==> ${text}`);

/** A sentence for the person who typed it; the rest is the program's own fault. */
class Refusal extends Error {}

let interrupted = false;
// The container's command gets the Ctrl-C from `berth run`, whose end is waited for.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => (interrupted = true));

process.exitCode = await main();

function valueOf(sysctl) {
  const file = `/proc/sys/${sysctl.replaceAll('.', '/')}`;
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
}

function turnedOn() {
  return wasOff.filter(name => valueOf(name) === '1');
}

async function main() {
  let daemon;
  try {
    if (process.getuid() !== 0) throw new Refusal('make run starts containers and needs root for that: sudo make run');
    daemon = await startDaemon();
    const code = await runContainer();
    if (stay !== '' && !interrupted) {
      sayHowToGoOn(daemon);
      daemon.unref();
      return code;
    }
    await takeAway(daemon);
    say(`Everything is removed. STAY=1 make run leaves the daemon running, for: berth ps, crictl ps`);
    for (const name of turnedOn()) say(`${name} is on now, since bridges need it; off again: sysctl -w ${name}=0`);
    return interrupted ? 130 : code;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    console.error(error.message);
    if (daemon) await takeAway(daemon);
    else rmSync(own, { recursive: true, force: true });
    return interrupted ? 130 : 1;
  }
}

async function startDaemon() {
  const logFile = join(own, 'berthd.log');
  for (const dir of [root, state]) mkdirSync(dir, { recursive: true, mode: 0o700 });
  chmodSync(own, 0o700);
  const log = openSync(logFile, 'a');
  // In a session of its own, so that a Ctrl-C here does not end it before its containers.
  const daemon = spawn(program('berthd'), ['--root', root, '--state', state], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  const until = Date.now() + readyWithinMs;
  while (berth(['version'], 'ignore').status !== 0) {
    if (daemon.exitCode !== null || daemon.signalCode !== null || Date.now() > until || interrupted) {
      daemon.kill();
      throw new Refusal(`berthd did not start:\n${readFileSync(logFile, 'utf8')}`.trimEnd());
    }
    await sleep(50);
  }
  say(`berthd runs as process ${daemon.pid}, with everything in ${own}`);
  say(`It listens on ${state}/cri.sock for the kubelet and crictl, and on ${state}/berth.sock for berth.`);
  return daemon;
}

async function runContainer() {
  const reference = image === '' ? helloName : image;
  if (image === '') {
    const layout = join(own, 'hello');
    makeHelloImage(layout);
    say(`berth import ${layout} ${helloName}, an image made of this machine's busybox`);
    await must(['import', layout, helloName]);
  } else {
    say(`berth pull ${image}`);
    await must(['pull', image]);
  }
  say(`berth run --rm ${reference}`);
  const code = await berthAsync(['run', '--rm', '--name', container, reference]);
  say(`The container's exit code is ${code}.`);
  return code;
}

function sayHowToGoOn(daemon) {
  const files = [root, state, own].filter(dir => dir === own || !dir.startsWith(own));
  say(`The daemon stays. Try next:`);
  console.log(
    `      ${program('berth')} --host ${host} run -d --name web ${image === '' ? helloName : image} sleep 1000`,
  );
  console.log(`      ${program('berth')} --host ${host} ps`);
  console.log(
    `      crictl --runtime-endpoint unix://${state}/cri.sock --image-endpoint unix://${state}/cri.sock images`,
  );
  say(
    `Remove its containers (berth rm -f …), then stop it and remove its files: kill ${daemon.pid} && rm -r ${files.join(' ')}`,
  );
}

/** Only what was made here: a given root may hold other containers. */
async function takeAway(daemon) {
  berth(['rm', '-f', container], 'ignore');
  if (daemon.exitCode === null && daemon.signalCode === null) {
    const ended = new Promise(done => daemon.once('exit', done));
    daemon.kill('SIGTERM');
    await ended;
  }
  if (existsSync(own)) rmSync(own, { recursive: true, force: true });
}

async function must(args) {
  if ((await berthAsync(args)) !== 0) throw new Refusal(`berth ${args[0]} failed; the sentence above says why.`);
}

function berth(args, stdio) {
  return spawnSync(program('berth'), ['--host', host, ...args], { stdio });
}

async function berthAsync(args) {
  if (interrupted) throw new Refusal('Interrupted.');
  const child = spawn(program('berth'), ['--host', host, ...args], { stdio: 'inherit' });
  return await new Promise(done => child.once('close', (code, signal) => done(code ?? (signal ? 130 : 1))));
}
