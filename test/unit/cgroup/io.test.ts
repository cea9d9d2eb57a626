import assert from 'node:assert/strict';
import { parseBlkio, parseIoStat } from '../../../src/cgroup/io';

describe('what a cgroup reads and writes', () => {
  it('is read from v2, by device', () => {
    const text = `8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0
254:16 rbytes=0 wbytes=512 rios=0 wios=1 dbytes=100 dios=1
7:0 \n`;
    assert.deepEqual(parseIoStat(text), [
      { device: '8:0', readBytes: 4096, writtenBytes: 8192, reads: 1, writes: 2 },
      { device: '254:16', readBytes: 0, writtenBytes: 512, reads: 0, writes: 1 },
      { device: '7:0', readBytes: 0, writtenBytes: 0, reads: 0, writes: 0 },
    ]);
    assert.deepEqual(parseIoStat(''), []);
  });

  it('is read from v1, by device, out of two files', () => {
    const lines = (read: number, write: number) =>
      `8:0 Read ${read}\n8:0 Write ${write}\n8:0 Sync 3\n8:0 Total ${read + write}\n`;
    const bytes = `${lines(4096, 8192)}254:16 Write 512\nTotal 12800\n`;
    assert.deepEqual(parseBlkio(bytes, `${lines(1, 2)}Total 3\n`), [
      { device: '8:0', readBytes: 4096, writtenBytes: 8192, reads: 1, writes: 2 },
      { device: '254:16', readBytes: 0, writtenBytes: 512, reads: 0, writes: 0 },
    ]);
    assert.deepEqual(parseBlkio('Total 0\n', 'Total 0\n'), []);
  });
});
