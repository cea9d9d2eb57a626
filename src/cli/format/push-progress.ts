import { LayerPush_Phase as Phase } from '../../cri/generated/berth/v1/registry';
import { progressDisplay, type Phases, type ProgressDisplay } from './progress';
import type { Screen } from './redrawn';

const PUSH: Phases = {
  words: {
    [Phase.WAITING]: 'Waiting',
    [Phase.FETCHING]: 'Fetching',
    [Phase.UPLOADING]: 'Pushing',
    [Phase.PUSHED]: 'Pushed',
    [Phase.EXISTS]: 'Layer already exists',
    [Phase.MOUNTED]: 'Mounted from another repository',
  },
  waiting: Phase.WAITING,
  moving: Phase.UPLOADING,
  busy: [Phase.FETCHING],
  done: Phase.PUSHED,
  present: [Phase.EXISTS, Phase.MOUNTED],
  where: 'there',
};

/** How far a push is: bars on a terminal, lines elsewhere, nothing when `quiet`. */
export function pushDisplay(screen: Screen, quiet: boolean): ProgressDisplay {
  return progressDisplay(screen, quiet, PUSH);
}
