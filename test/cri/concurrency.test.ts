import assert from 'node:assert/strict';
import { status, type ServiceError } from '@grpc/grpc-js';
import fc from 'fast-check';
import { snapshot } from '../support/leaks';
import { useNode } from '../support/node';

/** What a call may answer when others are at the same pod and container: never that something broke. */
const EXPECTED = new Set(['FAILED_PRECONDITION', 'NOT_FOUND', 'DEADLINE_EXCEEDED', 'CANCELLED', 'ABORTED']);

describe('calls that meet at one pod', function () {
  this.timeout(120_000);
  const node = useNode();

  /** The kubelet's calls for one pod and two containers of it, by name. */
  const calls = async () => {
    const { client } = node();
    const config = node().podConfig();
    const containers = [0, 1].map(() =>
      node().containerConfig({ command: ['sh', '-c', 'echo hello; exec sleep 1000'] }),
    );
    const { podSandboxId } = await client.call('RunPodSandbox', { config });
    const ids = ['', ''];
    const containerCalls = [0, 1].map(i => ({
      create: async () => {
        const created = await client.call('CreateContainer', { podSandboxId, config: containers[i] });
        ids[i] = created.containerId;
      },
      start: () => client.call('StartContainer', { containerId: ids[i] }),
      exec: () => client.call('ExecSync', { containerId: ids[i], cmd: ['echo', 'hi'], timeout: 10 }),
      stop: () => client.call('StopContainer', { containerId: ids[i], timeout: 0 }),
      remove: () => client.call('RemoveContainer', { containerId: ids[i] }),
      status: () => client.call('ContainerStatus', { containerId: ids[i] }),
    }));
    const podCalls = {
      run: () => client.call('RunPodSandbox', { config }),
      stopPod: () => client.call('StopPodSandbox', { podSandboxId }),
      removePod: () => client.call('RemovePodSandbox', { podSandboxId }),
    };
    return { containerCalls, podCalls };
  };
  const containerVerb = fc.constantFrom('create', 'create', 'start', 'start', 'exec', 'stop', 'remove', 'status');
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ which: fc.nat(1), verb: containerVerb }) },
    { weight: 1, arbitrary: fc.record({ verb: fc.constantFrom('run', 'stopPod', 'removePod') }) },
  );
  /** Some steps at once, several times. */
  const story = fc.array(fc.array(step, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 5 });

  it('answer as if one came after the other, and leave nothing behind', async () => {
    const clean = snapshot(node().daemon);
    await fc.assert(
      fc.asyncProperty(story, async waves => {
        const { containerCalls, podCalls } = await calls();
        for (const wave of waves) {
          const at = wave.map(one => {
            const table: Record<string, () => Promise<unknown>> =
              'which' in one ? containerCalls[one.which]! : podCalls;
            return (table[one.verb] ?? assert.fail(one.verb))();
          });
          for (const [i, result] of (await Promise.allSettled(at)).entries()) {
            if (result.status === 'fulfilled') continue;
            const { code, details } = result.reason as ServiceError;
            assert.ok(EXPECTED.has(status[code] ?? ''), `${wave[i]?.verb}: ${status[code]}: ${details}`);
          }
        }
        await node().removeAll();
        await node().assertNothingLeft({ ...clean, fds: snapshot(node().daemon).fds });
        assert.deepEqual((await node().client.call('ListContainers')).containers, []);
      }),
      { numRuns: 40, endOnFailure: true },
    );
  });

  it('that create containers of a pod while it is removed leave none', async () => {
    const clean = snapshot(node().daemon);
    for (let round = 0; round < 15; round++) {
      const pod = await node().pod();
      const creates = Array.from({ length: 4 }, () => node().start(pod));
      await Promise.allSettled([...creates, node().client.call('RemovePodSandbox', { podSandboxId: pod })]);
      await node().client.call('RemovePodSandbox', { podSandboxId: pod });
      const { containers } = await node().client.call('ListContainers');
      assert.deepEqual(
        containers.map(({ id }) => id),
        [],
        `round ${round}`,
      );
    }
    await node().assertNothingLeft(clean);
  });

  it('whose caller goes away leave nothing half done', async () => {
    const clean = snapshot(node().daemon);
    for (let afterMs = 1; afterMs < 30; afterMs += 2) {
      const config = node().podConfig();
      const { client } = node();
      const { podSandboxId } = await client.call('RunPodSandbox', { config });
      await client.call('RunPodSandbox', { config: node().podConfig() }, afterMs).catch(() => undefined);
      const container = node().containerConfig();
      await client.call('CreateContainer', { podSandboxId, config: container }, afterMs).catch(() => undefined);
      // The retry joins what is under way, or what it made.
      const { containerId } = await client.call('CreateContainer', { podSandboxId, config: container });
      await client.call('StartContainer', { containerId }, afterMs).catch(() => undefined);
      await client.call('StartContainer', { containerId });
      assert.equal((await node().status(containerId)).state, 'CONTAINER_RUNNING');
      assert.equal((await client.call('ListContainers')).containers.length, 1);
      // A RunPodSandbox whose caller went away may still be under way.
      let left: number;
      do {
        await node().removeAll();
        left = (await client.call('ListPodSandbox')).items.length;
      } while (left > 0);
    }
    await node().removeAll();
    await node().assertNothingLeft({ ...clean, fds: snapshot(node().daemon).fds });
  });
});
