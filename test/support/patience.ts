/** By how much longer tests wait before they give up; more than 1 in a guest, whose processors are emulated. */
export const patience = Number(process.env['BERTH_TEST_PATIENCE'] ?? 1);
