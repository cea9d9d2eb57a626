#include "plan.h"

#include <stdlib.h>
#include <string.h>

struct op_shape {
    uint32_t op;
    const char *name;
    const char *fields;
};

static const struct op_shape shapes[] = {
#define OP(name, code, fields) {(code), #name, fields},
#include "plan.def"
#undef OP
};

static const struct op_shape *shape_of(uint32_t op)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (shapes[i].op == op)
            return &shapes[i];
    return NULL;
}

const char *plan_op_name(uint32_t op)
{
    const struct op_shape *shape = shape_of(op);
    return shape ? shape->name : "?";
}

static uint32_t load32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static size_t padded(size_t length)
{
    return (length + 3) & ~(size_t)3;
}

/* A string or byte run: u32 length, the bytes, a NUL, padding to four. Returns its size, or 0 when it does not fit. */
static size_t run_size(const unsigned char *p, size_t left, int text)
{
    if (left < 4)
        return 0;
    size_t length = load32(p);
    if (length > left)
        return 0;
    size_t size = 4 + padded(length + 1);
    if (size > left || p[4 + length] != 0)
        return 0;
    if (text && memchr(p + 4, 0, length))
        return 0;
    return size;
}

static size_t list_size(const unsigned char *p, size_t left)
{
    if (left < 4)
        return 0;
    size_t used = 4;
    for (uint32_t n = load32(p); n > 0; n--) {
        size_t size = run_size(p + used, left - used, 1);
        if (size == 0)
            return 0;
        used += size;
    }
    return used;
}

static size_t field_size(const char *type, const unsigned char *p, size_t left)
{
    if (strncmp(type, "u32", 3) == 0)
        return left < 4 ? 0 : 4;
    if (strncmp(type, "u64", 3) == 0)
        return left < 8 ? 0 : 8;
    if (strncmp(type, "strs", 4) == 0)
        return list_size(p, left);
    return run_size(p, left, strncmp(type, "str", 3) == 0);
}

/* True when the payload is exactly the fields of its operation. */
static int payload_fits(const char *fields, const unsigned char *p, size_t length)
{
    size_t used = 0;
    for (const char *type = strchr(fields, ':'); type; type = strchr(type + 1, ':')) {
        size_t size = field_size(type + 1, p + used, length - used);
        if (size == 0)
            return 0;
        used += size;
    }
    return used == length;
}

static int section_fits(const unsigned char *p, size_t length)
{
    size_t used = 0;
    while (used < length) {
        if (length - used < 8)
            return 0;
        const struct op_shape *shape = shape_of(load32(p + used));
        size_t payload = load32(p + used + 4);
        if (!shape || payload > length - used - 8 || !payload_fits(shape->fields, p + used + 8, payload))
            return 0;
        used += 8 + payload;
    }
    return 1;
}

int plan_check(struct plan *plan, const unsigned char *data, size_t length)
{
    if (length < sizeof(struct plan_header) || length > PLAN_MAX_BYTES || load32(data) != PLAN_MAGIC)
        return -1;
    size_t outer = load32(data + 4), inner = load32(data + 8);
    if (outer > length || inner > length || sizeof(struct plan_header) + outer + inner != length)
        return -1;
    plan->section[SECTION_OUTER] = data + sizeof(struct plan_header);
    plan->bytes[SECTION_OUTER] = outer;
    plan->section[SECTION_INNER] = plan->section[SECTION_OUTER] + outer;
    plan->bytes[SECTION_INNER] = inner;
    if (!section_fits(plan->section[0], outer) || !section_fits(plan->section[1], inner))
        return -1;
    return 0;
}

int plan_next(const struct plan *plan, enum plan_section section, size_t *offset, uint32_t *op, struct fields *fields)
{
    if (*offset >= plan->bytes[section])
        return 0;
    const unsigned char *p = plan->section[section] + *offset;
    *op = load32(p);
    fields->at = p + 8;
    *offset += 8 + load32(p + 4);
    return 1;
}

uint32_t field_u32(struct fields *fields)
{
    uint32_t value = load32(fields->at);
    fields->at += 4;
    return value;
}

uint64_t field_u64(struct fields *fields)
{
    uint64_t low = field_u32(fields);
    return low | (uint64_t)field_u32(fields) << 32;
}

struct bytes field_bytes(struct fields *fields)
{
    struct bytes run = {.data = fields->at + 4, .length = load32(fields->at)};
    fields->at += 4 + padded(run.length + 1);
    return run;
}

const char *field_str(struct fields *fields)
{
    return (const char *)field_bytes(fields).data;
}

uint32_t field_count(struct fields *fields)
{
    return field_u32(fields);
}

char **field_vector(struct fields *fields)
{
    uint32_t count = field_count(fields);
    char **vector = malloc(((size_t)count + 1) * sizeof *vector);
    if (!vector)
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        vector[i] = (char *)(uintptr_t)field_str(fields);
    vector[count] = NULL;
    return vector;
}
