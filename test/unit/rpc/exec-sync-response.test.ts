import assert from 'node:assert/strict';
import { ExecSyncResponse, RuntimeServiceService } from '../../../src/cri';
import { acceptEncoded } from '../../../src/rpc/encoded';
import { execSyncResponse } from '../../../src/rpc/exec-sync-response';

describe('the response of ExecSync', () => {
  const serialize = acceptEncoded(RuntimeServiceService)['execSync']?.responseSerialize;

  it('is what the generated codec makes of it, whatever the lengths and pieces', () => {
    for (const length of [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152]) {
      const stdout = Buffer.alloc(length, 'o');
      const stderr = Buffer.alloc(length, 'e');
      const pieces = [stdout.subarray(0, length / 3), stdout.subarray(length / 3)];
      for (const exitCode of [0, 1, 137, 255]) {
        // What grpc-js does with it.
        const message = serialize?.(execSyncResponse({ stdout: pieces, stderr: [stderr], exitCode }));
        const framed = Buffer.alloc(5 + (message?.byteLength ?? 0));
        message?.copy(framed, 5);
        const expected = ExecSyncResponse.encode({ stdout, stderr, exitCode }).finish();
        assert.ok(framed.subarray(5).equals(expected), `${length} bytes, exit code ${exitCode}`);
      }
    }
  });
});
