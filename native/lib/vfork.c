#include "vfork.h"

/*
 * Raw: between the system call and the child's first instruction the compiler
 * must not touch the stack, which is another one in the child.
 */
static long clone3_call(struct clone3_args *args, size_t size, int (*child)(void *), void *argument)
{
#if defined(__x86_64__)
    long result;
    register int (*fn)(void *) __asm__("r12") = child;
    register void *arg __asm__("r13") = argument;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "and $-16, %%rsp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "mov %%eax, %%edi\n\t"
                     "mov $60, %%eax\n\t" /* exit */
                     "syscall\n\t"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_clone3), "D"(args), "S"(size), "r"(fn), "r"(arg)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = (long)size;
    register int (*fn)(void *) __asm__("x20") = child;
    register void *arg __asm__("x21") = argument;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "mov x0, x21\n\t"
                     "blr x20\n\t"
                     "mov x8, #93\n\t" /* exit */
                     "svc #0\n\t"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(fn), "r"(arg)
                     : "memory", "cc");
    return x0;
#else
#error "berth runs on x86-64 and arm64"
#endif
}

int vfork_into(struct clone3_args *args, int (*child)(void *), void *argument)
{
    args->flags |= BERTH_CLONE_VM | BERTH_CLONE_VFORK | BERTH_CLONE_CLEAR_SIGHAND;
    long result = clone3_call(args, sizeof *args, child, argument);
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return (int)result;
}
