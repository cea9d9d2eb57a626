/* berth-helper ROLE: executes launch plans. Started by the daemon only; not for people. */
#include "helper.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    const char *role = argc > 1 ? argv[1] : "";
    if (strcmp(role, "monitor") == 0)
        return role_monitor();
    if (strcmp(role, "exec") == 0)
        return role_exec();
    if (strcmp(role, "pin") == 0)
        return role_pin();
    if (strcmp(role, "dial") == 0)
        return role_dial();
    if (strcmp(role, "hold") == 0)
        return role_hold();
    fputs("berth-helper: this program is started by berthd; run berthd, or berth --help\n", stderr);
    return 2;
}
