import { isInGuest } from '../support/cgroup-parent';

/** Imported first by what starts, stops and restarts units: on a node it would end all pods. */
if (!isInGuest) {
  throw new Error('these tests take the whole machine, so they run in a guest alone: run make test-vm');
}
