#ifndef BERTH_NULL_H
#define BERTH_NULL_H

#include <node_api.h>

void export_null(napi_env env, napi_value exports);

#endif
