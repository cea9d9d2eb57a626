/*
 * Many small files of the kernel's in one call, on a thread that is not the event loop's. The contracts are in
 * src/native/addon.ts.
 */
#ifndef BERTH_BATCH_H
#define BERTH_BATCH_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stddef.h>

/* A string argument that has NULs between its parts, as malloc'ed bytes with one more at the end. */
struct parts {
    char *text;
    size_t bytes;
    size_t count;
};

/* 0, or -1 with a thrown error. An empty string has no parts. */
int get_parts(napi_env env, napi_value value, struct parts *parts);
/* The part after `part`. */
const char *next_part(const char *part);

/* A file's bytes, cut off at a line's end when they do not fit into `room`, of which one is for a NUL; -1 with errno. */
ptrdiff_t read_whole(int fd, char *buffer, size_t room);

napi_value read_files(napi_env env, napi_callback_info info);
napi_value tree_usage(napi_env env, napi_callback_info info);
napi_value stop_counting(napi_env env, napi_callback_info info);
napi_value descriptor_counts(napi_env env, napi_callback_info info);

#endif
