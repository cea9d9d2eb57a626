/* passwd and group files of an image. The first line of the input is the name that is looked for. */
#define _GNU_SOURCE
#include "fuzz.h"
#include "../lib/users.h"

#include <string.h>

static void look_up(int fd, const char *name)
{
  struct user_entry found;
  uint32_t number = 0, groups[8];
  size_t count = 0;
  if (users_find(fd, name, 0, &found) == 1)
    MUST(strcmp(found.name, name) == 0 && strlen(found.home) < USERS_HOME && !strchr(found.home, '\n'));
  if (users_find(fd, NULL, 1000, &found) == 1)
    MUST(found.uid == 1000 && found.name[0] && memchr(found.name, 0, USERS_NAME) && found.gid != UINT32_MAX && (!found.home[0] || found.home[0] == '/'));
  if (users_find_group(fd, name, &number) == 1)
    MUST(number != UINT32_MAX);
  users_member_groups(fd, name, groups, &count, 8);
  MUST(count <= 8);
  for (size_t i = 0; i < count; i++)
    for (size_t j = 0; j < i; j++)
      MUST(groups[i] != groups[j]);
  if (users_number(name, &number))
    MUST(number != UINT32_MAX && name[0] != '-' && name[0] != '+');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  char name[64];
  const uint8_t *end = memchr(data, '\n', size);
  const size_t len = end ? (size_t)(end - data) : size;
  if (len >= sizeof name || memchr(data, 0, len))
    return 0;
  memcpy(name, data, len);
  name[len] = 0;
  look_up(file_of(data, size), name);
  return 0;
}
