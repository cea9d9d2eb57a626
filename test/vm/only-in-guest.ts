/** Imported first by what starts, stops and restarts units: on a node it would end all pods. */
if (process.env['BERTH_TEST_CGROUP'] === undefined) {
  throw new Error('these tests take the whole machine, so they run in a guest alone: run make test-vm');
}
