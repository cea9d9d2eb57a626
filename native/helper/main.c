/* berth-helper ROLE: executes launch plans. Started by the daemon only; not for people. */
#include "helper.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(void);
} roles[] = {
    {"monitor", role_monitor}, {"exec", role_exec}, {"pin", role_pin}, {"dial", role_dial}, {"hold", role_hold},
};

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "spare") == 0 && await_role(argc, argv))
        return 0;
    for (size_t i = 0; argc > 1 && i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(argv[1], roles[i].name) == 0)
            return roles[i].run();
    fputs("berth-helper: this program is started by berthd; run berthd, or berth --help\n", stderr);
    return 2;
}
