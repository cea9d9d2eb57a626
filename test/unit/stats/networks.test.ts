import assert from 'node:assert/strict';
import { parseNetDev } from '../../../src/stats/networks';

const HEADER = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
`;

describe('/proc/net/dev', () => {
  it('has the counters of each interface but the loopback', () => {
    const text = `${HEADER}    lo:   84656     888    0    0    0     0          0         0    84656     888    0    0    0     0       0          0
  eth0: 18446744073709 13    1    2    0     0          0         0     1076      14    3    4    0     0       0          0
net1.5:1 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0
`;
    const none = { receiveErrors: 0, receivedDropped: 0, sendErrors: 0, sentDropped: 0 };
    assert.deepEqual(parseNetDev(text), [
      {
        name: 'eth0',
        ...{ receivedBytes: 18446744073709, receivedPackets: 13, receiveErrors: 1, receivedDropped: 2 },
        ...{ sentBytes: 1076, sentPackets: 14, sendErrors: 3, sentDropped: 4 },
      },
      { name: 'net1.5', receivedBytes: 1, receivedPackets: 1, sentBytes: 2, sentPackets: 2, ...none },
    ]);
  });

  it('has none where there is no network', () => {
    assert.deepEqual(parseNetDev(''), []);
    assert.deepEqual(parseNetDev(HEADER), []);
  });
});
