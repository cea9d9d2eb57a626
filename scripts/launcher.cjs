#!/usr/bin/env node
'use strict';
const { realpathSync } = require('node:fs');
const path = require('node:path');

// The launcher may be a symlink in /usr/local/bin; the bundle is found from where it really is.
const launcher = realpathSync(__filename);
// File calls that hang (a dead network file system under a mount's source) must not use up all of the daemon's pool.
// Set here, because an import of the daemon's starts the pool, whose size is read then.
if (path.basename(launcher) === 'berthd') process.env.UV_THREADPOOL_SIZE ??= '16';
const bundles = path.join(path.dirname(launcher), '../dist/bundle');
require(path.join(bundles, 'load.cjs')).load(path.join(bundles, `${path.basename(launcher)}.cjs`));
