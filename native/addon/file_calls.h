#ifndef BERTH_FILE_CALLS_H
#define BERTH_FILE_CALLS_H

#include <node_api.h>

void export_file_calls(napi_env env, napi_value exports);

#endif
