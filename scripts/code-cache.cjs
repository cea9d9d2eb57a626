'use strict';
// Usage: node code-cache.cjs <bundle> [<argument>…]. Writes the code cache of a bundle after running it with the arguments,
// so that the functions that they need are in the cache, and the others are not.
const fs = require('node:fs');
const { cacheFile, compile, run } = require('./load.cjs');

const [, , bundle, ...args] = process.argv;
const script = compile(bundle);
process.argv = [process.execPath, bundle, ...args];
process.once('exit', () => fs.writeFileSync(cacheFile(bundle), script.createCachedData()));
run(script, bundle);
