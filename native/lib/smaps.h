/* Which pages of a process are also in the file that they were mapped from, as /proc/PID/smaps has it. */
#ifndef BERTH_SMAPS_H
#define BERTH_SMAPS_H

#include <stdio.h>

/*
 * Calls `found` for each mapping of the file `program` that is read-only and private and has no page of its own, neither in
 * memory nor in swap: what it loses, the kernel reads from the file again.
 */
void smaps_unchanged(FILE *smaps, const char *program, void (*found)(unsigned long from, unsigned long to, void *), void *);

#endif
