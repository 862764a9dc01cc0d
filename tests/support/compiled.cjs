// Loaded before a large program of one file: keeps what V8 has compiled of it for the next run.
// COMPILED_PROGRAM is the end of that file's path, COMPILED_KEPT the file to keep it in.

const fs = require("node:fs");
const Module = require("node:module");
const path = require("node:path");
const vm = require("node:vm");

const { COMPILED_PROGRAM: program, COMPILED_KEPT: kept } = process.env;
const compile = Module.prototype._compile;

Module.prototype._compile = function (source, filename, ...rest) {
  if (!filename.endsWith(program)) return compile.call(this, source, filename, ...rest);
  const cachedData = fs.existsSync(kept) ? fs.readFileSync(kept) : undefined;
  const wrapped = Module.wrap(source.replace(/^#!.*/, ""));
  const importModuleDynamically = vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
  const script = new vm.Script(wrapped, { filename, cachedData, importModuleDynamically });
  if (!cachedData || script.cachedDataRejected) { // none, or another version's
    process.on("exit", () => {
      const unfinished = `${kept}.${process.pid}`; // several may run at once
      fs.writeFileSync(unfinished, script.createCachedData());
      fs.renameSync(unfinished, kept);
    });
  }
  const require = Module.createRequire(filename);
  require.main = process.mainModule;
  const run = script.runInThisContext();
  return run.call(this.exports, this.exports, require, this, filename, path.dirname(filename));
};
