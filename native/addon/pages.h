#ifndef BERTH_PAGES_H
#define BERTH_PAGES_H

#include <node_api.h>

void export_pages(napi_env env, napi_value exports);

#endif
