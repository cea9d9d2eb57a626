/*
 * Makes system calls and tells how each ended: an argument is NUMBER[:ARG]..., a line is "NUMBER ERRNO", 0 for success.
 * Whatever a call opens is closed by the end of the process; calls that would change the machine get arguments that
 * the kernel refuses.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        unsigned long args[6] = {0};
        char *at = argv[i];
        long number = strtol(at, &at, 0);
        for (int k = 0; k < 6 && *at == ':'; k++)
            args[k] = strtoul(at + 1, &at, 0);
        errno = 0;
        long result = syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
        printf("%ld %d\n", number, result < 0 ? errno : 0);
        fflush(stdout);
    }
    return 0;
}
