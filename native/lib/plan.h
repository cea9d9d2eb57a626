/*
 * The launch plan as bytes: layout and checks in native/README.md, operations in
 * plan.def. plan_check() is run once over the whole plan; after it, the readers
 * below need no bounds of their own.
 */
#ifndef BERTH_PLAN_H
#define BERTH_PLAN_H

#include <stddef.h>
#include <stdint.h>

#define PLAN_MAGIC 0x314c5042u /* "BPL1" */
#define PLAN_MAX_BYTES (64u << 20)

enum plan_op {
#define OP(name, code, fields) OP_##name = (code),
#include "plan.def"
#undef OP
};

enum plan_section { SECTION_OUTER = 0, SECTION_INNER = 1 };

/* Every number is little endian; both sections are lists of {u32 op, u32 length, payload}. */
struct plan_header {
    uint32_t magic;
    uint32_t outer_bytes;
    uint32_t inner_bytes;
    uint32_t reserved;
};

struct plan {
    const unsigned char *section[2];
    size_t bytes[2];
};

/* Reads the fields of one operation, in order. */
struct fields {
    const unsigned char *at;
};

struct bytes {
    const unsigned char *data;
    size_t length;
};

/* 0, or -1 when the bytes are no plan; `plan` then points into `data`, which must outlive it. */
int plan_check(struct plan *plan, const unsigned char *data, size_t length);

/* The next operation of a section; 0 at its end. `offset` starts at 0. */
int plan_next(const struct plan *plan, enum plan_section section, size_t *offset, uint32_t *op, struct fields *fields);

/* The name of an operation, for messages; "?" for an unknown code. */
const char *plan_op_name(uint32_t op);

uint32_t field_u32(struct fields *fields);
uint64_t field_u64(struct fields *fields);
/* NUL-terminated, inside the plan. */
const char *field_str(struct fields *fields);
struct bytes field_bytes(struct fields *fields);
/* Count of the list that follows; read that many with field_str. */
uint32_t field_count(struct fields *fields);
/* A NULL-terminated vector of the list's strings, from malloc; NULL when memory is out. */
char **field_vector(struct fields *fields);

#endif
