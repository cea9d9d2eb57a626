'use strict';
// Loads a bundle like require() does, but from V8's code cache where there is a fitting one: V8 accepts it only for the
// same source, version and flags. Reading a cache is much cheaper than compiling the whole bundle at every start.
const fs = require('node:fs');
const Module = require('node:module');
const path = require('node:path');
const vm = require('node:vm');

exports.load = bundle => exports.run(exports.compile(bundle, readIfThere(exports.cacheFile(bundle))), bundle);

exports.cacheFile = bundle => `${bundle}.cache`;

/** A bundle is one function, as Node's loader makes one of a module, and has ASCII only. */
exports.compile = (bundle, cachedData) =>
  new vm.Script(fs.readFileSync(bundle, 'latin1'), { filename: bundle, cachedData });

/** As Node's own loader would: with the bundle's require, file name and folder. */
exports.run = (script, bundle) => {
  const module = new Module(bundle, null);
  module.filename = bundle;
  module.paths = Module._nodeModulePaths(path.dirname(bundle));
  require.cache[bundle] = module;
  const wrapper = script.runInThisContext();
  wrapper.call(module.exports, module.exports, Module.createRequire(bundle), module, bundle, path.dirname(bundle));
  module.loaded = true;
};

function readIfThere(file) {
  try {
    return fs.readFileSync(file);
  } catch {
    return undefined;
  }
}
