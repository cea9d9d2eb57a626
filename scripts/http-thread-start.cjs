'use strict';
// What the daemon's HTTP thread begins with: its bundle, from the code cache.
const path = require('node:path');
require('./load.cjs').load(path.join(__dirname, 'http-thread.cjs'));
