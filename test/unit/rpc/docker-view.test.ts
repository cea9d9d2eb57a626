import assert from 'node:assert/strict';
import { dockerPorts } from '../../../src/rpc/docker-view';

describe('docker’s view of a container', () => {
  it('has its published ports by port of the container', () => {
    const port = (hostIp: string, hostPort: number, protocol: string) => ({
      hostIp,
      hostPort,
      containerPort: 53,
      protocol,
    });
    assert.deepEqual(dockerPorts([port('', 53, 'udp'), port('127.0.0.1', 5353, 'udp'), port('::1', 53, 'tcp')]), {
      '53/udp': [
        { HostIp: '', HostPort: '53' },
        { HostIp: '127.0.0.1', HostPort: '5353' },
      ],
      '53/tcp': [{ HostIp: '::1', HostPort: '53' }],
    });
    assert.deepEqual(dockerPorts([]), {});
  });
});
