import assert from 'node:assert/strict';
import { CriClient } from '../support/cri-client';
import { refused, useNode } from '../support/node';

describe('the security context of a pod', function () {
  this.timeout(30_000);
  const node = useNode();

  it('is for a process of the pod’s own, which there is none of: containers have theirs', async () => {
    const securityContext = {
      selinuxOptions: {},
      runAsUser: { value: '1234' },
      runAsGroup: { value: '1234' },
      readonlyRootfs: true,
      supplementalGroups: ['4321'],
      supplementalGroupsPolicy: 'Strict',
      seccomp: { profileType: 'RuntimeDefault' },
      apparmor: { profileType: 'Unconfined' },
      privileged: false,
    };
    const pod = await node().pod({ linux: { securityContext } });
    const { stdout } = await node().run(
      ['sh', '-c', 'id -u; id -G; echo x > /file && cat /file; grep Seccomp: /proc/self/status'],
      {
        pod,
      },
    );
    assert.equal(stdout, '0\n0\nx\nSeccomp:\t0\n');
  });

  it('must allow a privileged container', async () => {
    const pod = await node().pod({ linux: { securityContext: { privileged: false } } });
    const privileged = { security: { privileged: true } };
    await refused(node().create(pod, privileged), 'FAILED_PRECONDITION', 'not made for one');
    await node().create(await node().pod({ linux: { securityContext: { privileged: true } } }), privileged);
  });
});

describe('what CreateContainer is told beside the container', function () {
  this.timeout(30_000);
  const node = useNode();

  it('is the one that the pod was made with, whatever CreateContainer brings', async () => {
    const pod = await node().pod();
    const config = node().containerConfig({ command: ['hostname'] });
    const sandboxConfig = { ...node().podConfig(), hostname: 'another' };
    const { containerId } = await node().client.call('CreateContainer', { podSandboxId: pod, config, sandboxConfig });
    await node().client.call('StartContainer', { containerId });
    await node().exit(containerId);
    const [line] = await node().logLines(containerId);
    assert.match(line?.text ?? '', /^pod-\d+$/);
  });

  it('is returned as it came', async () => {
    const image = {
      image: node().box,
      annotations: { 'a.b/c': 'd' },
      userSpecifiedImage: 'what:ever',
      runtimeHandler: 'handler',
      imageRef: 'reference',
    };
    const config = { ...node().containerConfig(), image };
    const podSandboxId = await node().pod();
    const { containerId } = await node().client.call('CreateContainer', { podSandboxId, config });
    assert.deepEqual({ ...(await node().status(containerId)).image }, image);
    using client = new CriClient(node().daemon.socket);
    const { containers } = await client.call('ListContainers', { filter: { id: containerId } });
    assert.deepEqual((containers as unknown as { image: object }[])[0]?.image, image);
  });
});
