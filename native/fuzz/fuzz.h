/*
 * What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput; it is linked with libFuzzer (make
 * check-fuzz) or with replay.c, which goes through the inputs in corpus/ (make test). It fails by abort().
 */
#ifndef BERTH_FUZZ_H
#define BERTH_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Called once, before any input, when a target has one. -1: it cannot run here, for want of root. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run with a finding. */
#define MUST(condition) must(!!(condition), #condition, __FILE__, __LINE__)
void must(int ok, const char *what, const char *file, int line);

/* An unnamed file with these bytes, at its beginning; the same one for every input. */
int file_of(const uint8_t *data, size_t size);

/* Memory that ends where a page begins that cannot be touched: for code that no sanitizer looks into. At most GUARDED. */
enum { GUARDED = 1 << 20 };
uint8_t *guarded_end(unsigned which); /* the first byte after it; which: 0 or 1 */

/*
 * A directory in a tmpfs that nobody else sees and that goes with the process, for targets that write files. -1 without
 * root. What is written to stdout from then on can be had from place_output().
 */
int place(void);
/* What was printed since the last call. */
const char *place_output(void);

#endif
