/* What the C tests share: a count of checks, random numbers with a seed that is printed, and a place for files. */
#ifndef BERTH_TEST_CHECK_H
#define BERTH_TEST_CHECK_H

#include <stddef.h>
#include <stdint.h>

/* Runs one test, which passes when all its checks hold. */
void run_test(const char *name, void (*test)(void));
#define RUN(test) run_test(#test, test)

void check(int ok, const char *file, int line, const char *what);
#define CHECK(condition) check(!!(condition), __FILE__, __LINE__, #condition)

uint32_t random_below(uint32_t limit);
void random_bytes(unsigned char *out, size_t length);

/* A directory of this run's own; removed at its end. */
extern int scratch;
/* Writes a file below `scratch` and returns it open for reading. */
int file_with(const char *name, const void *data, size_t length);

void test_crilog(void);
void test_users(void);
void test_plan(void);
void test_rooted(void);
void test_wire(void);
void test_smaps(void);

#endif
