/* What the addon's files share. */
#ifndef BERTH_ADDON_H
#define BERTH_ADDON_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stddef.h>

/* An Error whose `code` is the name of this errno and whose message begins with `call`. */
napi_value make_errno(napi_env env, const char *call, int failure);
/* 0, or -1 for what is no number. */
int get_int(napi_env env, napi_value value, int *number);
/* A string argument as malloc'ed bytes without a NUL inside; NULL with a thrown TypeError otherwise. */
char *get_string(napi_env env, napi_value value);
/* 1 with so many arguments in `values`, 0 with a thrown TypeError for fewer. */
size_t arguments(napi_env env, napi_callback_info info, napi_value *values, size_t wanted);

/* netlink.c */
napi_value netlink(napi_env env, napi_callback_info info);
/* pages.c */
napi_value release_pages(napi_env env, napi_callback_info info);

#endif
