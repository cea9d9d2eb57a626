/* A plan is refused, or every reader stays inside it. */
#include "check.h"
#include "plan.h"

#include <stdlib.h>
#include <string.h>

struct shape {
    uint32_t op;
    const char *fields;
};

static const struct shape shapes[] = {
#define OP(name, code, fields) {(code), fields},
#include "plan.def"
#undef OP
};

static unsigned char *out;
static size_t used;

static void u32(uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[used++] = (unsigned char)(value >> (8 * i));
}

static void patch(size_t at, uint32_t value)
{
    size_t end = used;
    used = at;
    u32(value);
    used = end;
}

static void run(int is_text)
{
    size_t length = random_below(40), padded = (length + 4) & ~(size_t)3;
    u32((uint32_t)length);
    memset(out + used, 0, padded);
    for (size_t i = 0; i < length; i++)
        out[used + i] = (unsigned char)(is_text ? 1 + random_below(255) : random_below(256));
    used += padded;
}

static void field(const char *type)
{
    if (strncmp(type, "u32", 3) == 0) {
        u32(random_below(1000));
    } else if (strncmp(type, "u64", 3) == 0) {
        u32(random_below(1000));
        u32(0);
    } else if (strncmp(type, "strs", 4) == 0) {
        uint32_t count = random_below(5);
        u32(count);
        while (count-- > 0)
            run(1);
    } else {
        run(strncmp(type, "str", 3) == 0);
    }
}

static void operation(void)
{
    const struct shape *shape = &shapes[random_below(sizeof shapes / sizeof shapes[0])];
    u32(shape->op);
    size_t length_at = used;
    u32(0);
    for (const char *type = strchr(shape->fields, ':'); type; type = strchr(type + 1, ':'))
        field(type + 1);
    patch(length_at, (uint32_t)(used - length_at - 4));
}

static void make_plan(void)
{
    used = 0;
    u32(PLAN_MAGIC);
    for (int i = 0; i < 3; i++)
        u32(0);
    for (uint32_t n = random_below(8); n > 0; n--)
        operation();
    size_t outer_end = used;
    for (uint32_t n = random_below(8); n > 0; n--)
        operation();
    patch(4, (uint32_t)(outer_end - sizeof(struct plan_header)));
    patch(8, (uint32_t)(used - outer_end));
}

/* Reads all that a checked plan promises; the sanitizer sees a byte too far. */
static uint64_t read_all(const struct plan *plan)
{
    uint64_t sum = 0;
    for (int section = 0; section < 2; section++) {
        size_t offset = 0;
        uint32_t op;
        struct fields fields;
        while (plan_next(plan, (enum plan_section)section, &offset, &op, &fields)) {
            size_t which = 0;
            while (shapes[which].op != op)
                which++;
            for (const char *type = strchr(shapes[which].fields, ':'); type; type = strchr(type + 1, ':')) {
                if (strncmp(type + 1, "u32", 3) == 0) {
                    sum += field_u32(&fields);
                } else if (strncmp(type + 1, "u64", 3) == 0) {
                    sum += field_u64(&fields);
                } else if (strncmp(type + 1, "strs", 4) == 0) {
                    char **vector = field_vector(&fields);
                    for (char **at = vector; *at; at++)
                        sum += strlen(*at);
                    free(vector);
                } else {
                    struct bytes bytes = field_bytes(&fields);
                    for (size_t i = 0; i < bytes.length; i++)
                        sum += bytes.data[i];
                    sum += bytes.data[bytes.length];
                }
            }
        }
    }
    return sum;
}

/* In memory of just this size. */
static int checks(size_t length, uint64_t *sum)
{
    struct plan plan;
    unsigned char *exact = malloc(length ? length : 1);
    memcpy(exact, out, length);
    int accepted = plan_check(&plan, exact, length) == 0;
    if (accepted)
        *sum += read_all(&plan);
    free(exact);
    return accepted;
}

static void whole_plans_only(void)
{
    uint64_t sum = 0;
    for (int round = 0; round < 200; round++) {
        make_plan();
        CHECK(checks(used, &sum));
        CHECK(!checks(random_below((uint32_t)used), &sum)); /* cut short */
        CHECK(!checks(used + 4, &sum));
        for (int i = 0; i < 20; i++) { /* garbled: whatever is accepted can be read */
            unsigned char *at = &out[random_below((uint32_t)used)], kept = *at;
            *at = (unsigned char)random_below(256);
            checks(used, &sum);
            *at = kept;
        }
        patch(0, PLAN_MAGIC + 1);
        CHECK(!checks(used, &sum));
    }
}

/* Noise behind a right header. */
static void noise(void)
{
    uint64_t sum = 0;
    int accepted = 0;
    for (int round = 0; round < 3000; round++) {
        used = 0;
        u32(PLAN_MAGIC);
        uint32_t length = random_below(200), outer = random_below(length + 1);
        u32(outer);
        u32(length - outer);
        u32(0);
        random_bytes(out + used, length);
        for (uint32_t at = 0; at + 4 <= length && random_below(4); at += 4)
            patch(used + at, random_below(64));
        used += length;
        accepted += checks(used, &sum);
    }
    CHECK(accepted < 3000);
}

static void lengths_that_overflow(void)
{
    uint64_t sum = 0;
    make_plan();
    patch(4, 0xffffffffu);
    patch(8, (uint32_t)used - 15);
    CHECK(!checks(used, &sum));
}

static void names(void)
{
    CHECK(strcmp(plan_op_name(OP_EXEC), "EXEC") == 0 && strcmp(plan_op_name(9999), "?") == 0);
}

void test_plan(void)
{
    out = malloc(1 << 16);
    RUN(whole_plans_only);
    RUN(noise);
    RUN(lengths_that_overflow);
    RUN(names);
    free(out);
}
