'use strict';
// Usage: node code-cache.cjs <bundle>. Writes the code cache of a bundle after running it with --version, so that the
// functions that every start needs are in the cache, and the others are not.
const fs = require('node:fs');
const { cacheFile, compile, run } = require('./load.cjs');

const bundle = process.argv[2];
const script = compile(bundle);
process.argv = [process.execPath, bundle, '--version'];
process.once('exit', () => fs.writeFileSync(cacheFile(bundle), script.createCachedData()));
run(script, bundle);
