/*
 * libseccomp's own program for a list of rules, on standard output. Standard input, a line each:
 *   default ACTION            first; actions are the kernel's numbers
 *   arch NAME                 as seccomp_arch_resolve_name(3) knows them
 *   rule ACTION SYSCALL [INDEX OP A B]...
 */
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add_rule(scmp_filter_ctx filter, char *rest)
{
    struct scmp_arg_cmp args[6];
    unsigned count = 0;
    char *word = strtok(rest, " \n");
    uint32_t action = (uint32_t)strtoul(word, NULL, 0);
    int number = seccomp_syscall_resolve_name(strtok(NULL, " \n"));
    if (number == __NR_SCMP_ERROR)
        return 0; /* no such call: runc leaves the rule out */
    while ((word = strtok(NULL, " \n")) != NULL) {
        struct scmp_arg_cmp *arg = &args[count++];
        arg->arg = (unsigned)atoi(word);
        arg->op = (enum scmp_compare)atoi(strtok(NULL, " \n"));
        arg->datum_a = strtoull(strtok(NULL, " \n"), NULL, 10);
        arg->datum_b = strtoull(strtok(NULL, " \n"), NULL, 10);
    }
    return seccomp_rule_add_array(filter, action, number, count, args);
}

int main(void)
{
    char line[1024];
    scmp_filter_ctx filter = NULL;
    while (fgets(line, sizeof line, stdin)) {
        int failed = 0;
        char *rest = strchr(line, ' ') + 1;
        if (strncmp(line, "default ", 8) == 0) {
            filter = seccomp_init((uint32_t)strtoul(rest, NULL, 0));
            failed = filter ? 0 : -1;
        } else if (strncmp(line, "arch ", 5) == 0) {
            rest[strcspn(rest, "\n")] = 0;
            uint32_t arch = seccomp_arch_resolve_name(rest);
            failed = seccomp_arch_exist(filter, arch) == 0 ? 0 : seccomp_arch_add(filter, arch);
        } else {
            failed = add_rule(filter, rest);
        }
        if (failed) {
            fprintf(stderr, "%d: %s\n", failed, line);
            return 2;
        }
    }
    return seccomp_export_bpf(filter, 1) ? 1 : 0;
}
