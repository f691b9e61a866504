// The Solidity compiler from npm (WebAssembly) behind the one call that forge and foundry-compilers make: `--standard-json`,
// input on stdin, output on stdout. npm's own `solcjs` answers imports through callbacks and installs exception handlers
// that hide the compiler's errors; both tools inline every source, so neither is needed.
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const unsupported = process.argv
  .slice(2)
  .filter((flag) => !["--standard-json", "--allow-paths", "--base-path", "--include-path"].includes(flag) && flag.startsWith("-"));
if (!process.argv.includes("--standard-json") || unsupported.length > 0) {
  console.error(`solc: this wrapper speaks --version and --standard-json only, got: ${process.argv.slice(2).join(" ")}`);
  process.exit(2);
}

const compiler = require(path.resolve(__dirname, "../../contracts/node_modules/solc"));
// Emscripten's handlers turn every later error into an abort without a message.
process.removeAllListeners("uncaughtException");
process.removeAllListeners("unhandledRejection");
fs.writeFileSync(1, compiler.compile(fs.readFileSync(0, "utf8")) + "\n");
