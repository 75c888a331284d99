// The Forward server of @fluent-org/logger: receive.cjs MODULES PORT FILE [SHARED_KEY]. Writes each entry as a line.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const [modules, port, file, sharedKey] = process.argv.slice(2);
const { FluentServer } = require(path.join(modules, "@fluent-org/logger"));
const out = fs.openSync(file, "a");
const server = new FluentServer({
  listenOptions: { port: Number(port), host: "127.0.0.1" },
  security: sharedKey && { serverHostname: "node.example", sharedKey },
});
server.on("entry", (tag, time, record) => fs.writeSync(out, `${JSON.stringify([tag, record])}\n`));
server.listen().then(() => console.log("listening"));
