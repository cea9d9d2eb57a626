/* The launch plan: what plan_check accepts, the readers read without leaving it. */
#include "fuzz.h"
#include "../lib/plan.h"

#include <stdlib.h>
#include <string.h>

static const struct {
  uint32_t op;
  const char *fields;
} shapes[] = {
#define OP(name, code, fields) {(code), (fields)},
#include "../lib/plan.def"
#undef OP
};

static const char *fields_of(uint32_t op)
{
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    if (shapes[i].op == op)
      return shapes[i].fields;
  return NULL;
}

static void read_strings(struct fields *f, const uint8_t *data, size_t size)
{
  struct fields again = *f;
  const uint32_t count = field_count(&again);
  char **vector = field_vector(f);
  MUST(vector);
  for (uint32_t i = 0; i < count; i++)
    MUST((const uint8_t *)vector[i] >= data && (const uint8_t *)vector[i] + strlen(vector[i]) < data + size);
  MUST(!vector[count]);
  free(vector);
}

static void read_fields(const char *fields, struct fields *f, const uint8_t *data, size_t size)
{
  for (const char *type = strchr(fields, ':'); type; type = strchr(type + 1, ':')) {
    if (strncmp(type, ":u32", 4) == 0)
      field_u32(f);
    else if (strncmp(type, ":u64", 4) == 0)
      field_u64(f);
    else if (strncmp(type, ":strs", 5) == 0)
      read_strings(f, data, size);
    else if (strncmp(type, ":str", 4) == 0)
      MUST((const uint8_t *)strchr(field_str(f), 0) < data + size);
    else
      MUST(field_bytes(f).length < size);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct plan plan;
  if (plan_check(&plan, data, size) < 0)
    return 0;
  for (enum plan_section section = SECTION_OUTER; section <= SECTION_INNER; section++) {
    size_t at = 0;
    uint32_t op;
    struct fields f;
    while (plan_next(&plan, section, &at, &op, &f)) {
      MUST(at <= plan.bytes[section] && fields_of(op) && plan_op_name(op)[0] != '?');
      read_fields(fields_of(op), &f, data, size);
      MUST(f.at == plan.section[section] + at);
    }
    MUST(at == plan.bytes[section]);
  }
  return 0;
}
