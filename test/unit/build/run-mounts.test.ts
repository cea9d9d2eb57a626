import assert from 'node:assert/strict';
import { parseDockerfile, type CommandOf } from '../../../src/build/dockerfile/parse';
import { openMounts } from '../../../src/build/run-mounts';
import type { StageState, StepTools } from '../../../src/build/steps';

const tools = { options: { secrets: new Map([['s', Buffer.from('x')]]), ssh: new Map() } } as unknown as StepTools;
const stage = { scope: { expand: (text: string) => text } } as unknown as StageState;

/** What a mount is for the cache. */
async function inputOf(mount: string): Promise<string> {
  const { stages } = parseDockerfile(`FROM scratch\nRUN --mount=${mount} true`);
  const command = stages[0]?.commands[0] as CommandOf<'RUN'>;
  await using mounts = await openMounts(tools, stage, command, '/work');
  return mounts.inputs.map(([, input]) => input).join();
}

describe('what the mounts of a RUN are for the cache', () => {
  it('is something else when a field is that a command can tell', async () => {
    const all = [
      'type=secret,id=s',
      'type=secret,id=t',
      'type=secret,id=s,target=there',
      'type=secret,id=s,env=S',
      'type=secret,id=s,mode=0444',
      'type=secret,id=s,mode=0440',
      'type=secret,id=s,uid=1000',
      'type=secret,id=s,gid=1000',
      'type=cache,target=/c',
      'type=cache,target=/d',
      'type=cache,target=/c,id=i',
      'type=cache,target=/c,mode=0700',
      'type=cache,target=/c,uid=1000',
      'type=cache,target=/c,gid=1000',
      'type=cache,target=/c,readonly',
      'type=tmpfs,target=/c',
      'type=tmpfs,target=/c,size=1m',
      'type=ssh',
      'type=ssh,id=i',
    ];
    const inputs = await Promise.all(all.map(inputOf));
    assert.deepEqual(
      all.filter((_, i) => inputs.indexOf(inputs[i] ?? '') !== i),
      [],
      'these are like one before',
    );
  });

  it('is the same for whoever says the same otherwise, and whatever a secret is', async () => {
    assert.equal(await inputOf('type=secret,id=s,dst=/x'), await inputOf('type=secret,target=/x,id=s'));
    const without = await inputOf('type=secret,id=none');
    assert.equal(without.replace(/none/g, 's'), await inputOf('type=secret,id=s'));
  });
});
