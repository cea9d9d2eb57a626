/*
 * What the benchmarks run in containers. `task` ends at once; `task wait` ends at once on SIGTERM; `task print BYTES LINE`
 * prints lines of LINE bytes, BYTES in all, in large writes, and one with the word end.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void stop(int number)
{
    (void)number;
    _exit(0);
}

static void put(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = write(1, bytes, length);
        if (n <= 0)
            _exit(1);
        bytes += n;
        length -= (size_t)n;
    }
}

static void print(size_t bytes, size_t line)
{
    static char text[65536];
    size_t whole = sizeof text - sizeof text % line;
    memset(text, 'x', whole);
    for (size_t end = line; end <= whole; end += line)
        text[end - 1] = '\n';
    for (size_t left = bytes; left > 0;) {
        size_t piece = left < whole ? left : whole;
        put(text, piece);
        left -= piece;
    }
    put("end\n", 4);
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc == 1)
        _exit(0);
    if (argc == 4 && strcmp(argv[1], "print") == 0)
        print(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
    signal(SIGTERM, stop);
    for (;;)
        pause();
}
