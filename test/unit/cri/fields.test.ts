import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status as codes, type ServiceError } from '@grpc/grpc-js';
import { createLogger, type Logger } from '../../../src/base/log';
import type { ContainerId, SandboxId } from '../../../src/base/ids';
import { Cgroups } from '../../../src/cgroup/groups';
import { loadConfig } from '../../../src/config';
import { Containers, type ContainerRecord } from '../../../src/container/containers';
import { Rlimits } from '../../../src/container/rlimits';
import { ContainerConfig, PodSandboxConfig, RuntimeServiceService } from '../../../src/cri';
import { nodePlatform } from '../../../src/image/platform';
import { PodNetwork } from '../../../src/network/pod-network';
import { runtimeService } from '../../../src/rpc/runtime-service';
import { serve, type RpcServer } from '../../../src/rpc/server';
import { Sandboxes, type RecordTable, type SandboxRecord } from '../../../src/sandbox/sandboxes';
import { UserNamespaceSupport } from '../../../src/sandbox/user-namespaces';
import { Facts } from '../../../src/stats/metrics/facts';
import { Readings } from '../../../src/stats/readings';
import { StreamingServer } from '../../../src/streaming/server';
import { CriClient } from '../../support/cri-client';
import { repoRoot } from '../../support/repo';
import { fieldVerdicts, type Refusal, type Verdict } from '../../support/field-verdicts';

/** A field of a message that some request of RuntimeService can hold. */
interface Field {
  key: string;
  type: string;
}

const rows = readFileSync(join(repoRoot, 'test/support/cri-v1.tsv'), 'utf8')
  .trim()
  .split('\n')
  .slice(1)
  .map(line => line.split('\t') as [kind: string, parent: string, name: string, number: string, type: string]);

/** All fields that hang on a message, Windows' own left out: the field that holds them is refused. */
function fieldsBelow(message: string, seen = new Set<string>()): Field[] {
  if (seen.has(message) || message.startsWith('Windows')) return [];
  seen.add(message);
  const own = rows.filter(([kind, parent]) => kind === 'field' && parent === message);
  return own.flatMap(([, , name, , type]) => {
    const held = /^map<.*,(.*)>$/.exec(type)?.[1] ?? type;
    return [{ key: `${message}.${name}`, type: held }, ...fieldsBelow(held, seen)];
  });
}

const requests = rows
  .filter(([kind, parent]) => kind === 'rpc' && parent === 'runtime.v1.RuntimeService')
  .map(([, , rpc, , type]) => ({ rpc, request: type.split(' -> ')[0] ?? '' }));

describe('every field of every request of RuntimeService', function () {
  this.timeout(30_000);
  let service: Service;
  before(async () => (service = await Service.start()));
  after(() => service.stop());

  const built = async () => {
    const refused = new Set<string>();
    for (const { rpc } of requests) {
      const error = await service.failure(rpc, {}, 'metadata');
      if (error?.details.includes('is not in this version of berth')) refused.add(rpc);
    }
    return requests.filter(({ rpc }) => !refused.has(rpc));
  };

  it('has a test, or is refused: none is passed over', async () => {
    const missing = (await built())
      .flatMap(({ request }) => fieldsBelow(request))
      .map(({ key }) => key)
      .filter(key => fieldVerdicts[key] === undefined);
    assert.deepEqual([...new Set(missing)], []);
  });

  it('is one that the CRI has', () => {
    const known = new Set(requests.flatMap(({ request }) => fieldsBelow(request)).map(({ key }) => key));
    const unknown = Object.keys(fieldVerdicts).filter(key => !known.has(key));
    assert.deepEqual(unknown, []);
  });

  it('is refused when it is for Windows', () => {
    const forWindows = requests
      .flatMap(({ request }) => fieldsBelow(request))
      .filter(({ type }) => type.startsWith('Windows'));
    assert.ok(forWindows.length >= 2);
    for (const { key } of forWindows) {
      const verdict = fieldVerdicts[key];
      assert.ok(verdict === undefined || 'refused' in verdict, `${key} is not refused`);
    }
  });

  for (const [key, verdict] of Object.entries(fieldVerdicts)) {
    if ('refused' in verdict)
      it(`${key} is refused with a sentence`, async () => {
        for (const refusal of verdict.refused) await assertRefused(service, key, refusal);
      });
    else it(`${key} ${'tests' in verdict ? 'has its tests' : 'is part of another'}`, () => assertCovered(verdict));
  }
});

function assertCovered(verdict: Exclude<Verdict, { refused: unknown }>): void {
  if ('partOf' in verdict) {
    const whole = fieldVerdicts[verdict.partOf];
    assert.ok(whole && !('partOf' in whole), `${verdict.partOf} has no verdict of its own`);
    return;
  }
  assert.ok(verdict.tests.length > 0);
  for (const [file, title] of verdict.tests) {
    const path = join(repoRoot, 'test', file);
    assert.ok(existsSync(path), `there is no ${path}`);
    const found = readFileSync(path, 'utf8').includes(title);
    assert.ok(found, `${file} has no test called "${title}"`);
  }
}

async function assertRefused(service: Service, key: string, { rpc, request, code, says }: Refusal): Promise<void> {
  const error = await service.failure(rpc, request(service.ids));
  assert.ok(error, `${rpc} with ${key} was accepted`);
  assert.equal(codes[error.code], code, `${key}: ${error.details}`);
  assert.match(error.details, says);
}

/** Without a configuration, no plugin is run. */
function noNetwork(log: Logger): PodNetwork {
  const run = () => Promise.reject(new Error('no plugin is run here'));
  const netlink = () => Promise.reject(new Error('no kernel is asked here'));
  const settings = { get: () => undefined, put: () => Promise.resolve() };
  const byDefault = { embedded: 'none', bridge: 'berth0', ranges: [], masquerade: true, mtu: 0, settings } as const;
  return new PodNetwork({
    configDir: '/no/cni',
    binDirs: [],
    timeoutMs: 1000,
    run,
    netlink,
    owner: '/',
    byDefault,
    log,
  });
}

/** The service as the daemon has it, with a ready pod and an image, on a host that makes nothing. */
class Service {
  private constructor(
    private readonly dir: string,
    private readonly server: RpcServer,
    private readonly streaming: StreamingServer,
    private readonly client: CriClient,
    readonly ids: { podSandboxId: string; containerId: string },
  ) {}

  static async start(): Promise<Service> {
    const dir = mkdtempSync(join(tmpdir(), 'berth-fields-'));
    const log = createLogger('error', 'text');
    const cgroups = new NoCgroups({ v2: '/no/cgroups', v2Controllers: [], v1: [] });
    const sandboxes = new Sandboxes(memory<SandboxRecord>(), dir, cgroups, noNetwork(log), log);
    const podSandboxId = 'a'.repeat(64);
    await sandboxes.add(readyPod(podSandboxId as SandboxId), PodSandboxConfig.create());
    const images = {
      node: nodePlatform(),
      find: () => anImage,
      lowerDirs: () => [],
      collect: () => Promise.resolve(),
      ready: () => Promise.resolve(),
    };
    const containers = new Containers(
      memory<ContainerRecord>(),
      dir,
      dir,
      sandboxes,
      images as never,
      cgroups,
      log,
      [],
      new Rlimits({}, {}, {} as never, log),
    );
    const containerId = 'c'.repeat(64);
    await containers.add(aContainer(containerId as ContainerId, podSandboxId as SandboxId), ContainerConfig.create());
    const config = loadConfig({ root: dir, state: dir });
    const streaming = await StreamingServer.start(config.streaming, log);
    const userNamespaces = new UserNamespaceSupport(dir, dir, log);
    const readings = new Readings(sandboxes, containers, cgroups, log);
    const implementation = runtimeService({
      log,
      config,
      version: '0.0.0',
      sandboxes,
      containers,
      userNamespaces,
      streaming,
      readings,
      facts: new Facts(readings, cgroups, dir),
    });
    const socket = join(dir, 'cri.sock');
    const server = await serve(socket, [{ definition: RuntimeServiceService, implementation }], log);
    return new Service(dir, server, streaming, new CriClient(socket), { podSandboxId, containerId });
  }

  async stop(): Promise<void> {
    this.client.close();
    await this.server.close();
    await this.streaming.close();
    rmSync(this.dir, { recursive: true });
  }

  /** How a call fails; undefined when it does not. A stream of events has metadata at once, and messages when there are some. */
  async failure(rpc: string, request: object, unless: 'data' | 'metadata' = 'data'): Promise<ServiceError | undefined> {
    const isStream = rows.some(([kind, , name, , , label]: string[]) => kind === 'rpc' && name === rpc && label);
    const call = isStream ? this.client.firstOf(rpc, request, unless) : this.client.callAny(rpc, request);
    return call.then(
      () => undefined,
      (error: unknown) => error as ServiceError,
    );
  }
}

/** A request that comes this far was not refused. */
class NoCgroups extends Cgroups {
  override create(): Promise<never> {
    return Promise.reject(new Error('the request was accepted'));
  }
}

const anImage = {
  id: 'sha256:0',
  tags: [],
  digests: [],
  layers: [],
  config: { ...nodePlatform(), env: [], entrypoint: ['/bin/true'], cmd: [], workingDir: '', user: '', volumes: [] },
};

function readyPod(id: SandboxId): SandboxRecord {
  return {
    version: 1,
    id,
    owner: 'cri',
    state: 'ready',
    config: Buffer.alloc(0),
    runtimeHandler: '',
    createdAtNs: 1n,
    hostname: 'pod',
    ownNetwork: true,
    ownIpc: true,
    cgroupParent: '/pod',
    ownsCgroupParent: true,
  };
}

function aContainer(id: ContainerId, sandboxId: SandboxId): ContainerRecord {
  return {
    version: 1,
    id,
    sandboxId,
    owner: 'cri',
    state: 'created',
    config: Buffer.alloc(0),
    imageId: 'sha256:0',
    imageRef: 'sha256:0',
    layerKeys: [],
    cgroupPath: '/pod/container',
    logPath: '',
    stopSignal: 15,
    createdAtNs: 1n,
    startedAtNs: 0n,
    finishedAtNs: 0n,
    exitCode: 0,
    reason: '',
    message: '',
  };
}

function memory<Stored>(): RecordTable<Stored> {
  const kept = new Map<string, Stored>();
  return {
    list: () => [...kept.values()],
    put: (key, record) => Promise.resolve(void kept.set(key, record)),
    remove: key => Promise.resolve(void kept.delete(key)),
  };
}
