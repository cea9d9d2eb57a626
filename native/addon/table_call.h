/* readTable: table.h for JavaScript. The contract is in src/native/addon.ts. */
#ifndef BERTH_TABLE_CALL_H
#define BERTH_TABLE_CALL_H

#define NAPI_VERSION 8
#include <node_api.h>

napi_value read_table(napi_env env, napi_callback_info info);
napi_value wake_table(napi_env env, napi_callback_info info);

#endif
