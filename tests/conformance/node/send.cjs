// Sends each text that comes on standard input, a JSON string a line, with the client and the options of FORM. With
// acknowledgements, each acknowledged text is printed in the same form.
//
//     node send.cjs FORM SOCKET
"use strict";
const readline = require("node:readline");
const [form, path] = process.argv.slice(2);
const lines = readline.createInterface({ input: process.stdin });

if (form === "fluent-logger") {
  const internalLogger = { info() {}, error() {} };
  const client = require("fluent-logger").createFluentSender("shop", { path, reconnectInterval: 20, internalLogger });
  lines.on("line", (line) => client.emit("web", { message: JSON.parse(line) }));
  lines.on("close", () => client.end());
} else {
  const { FluentClient } = require("@fluent-org/logger");
  const client = new FluentClient("shop", {
    eventMode: form,
    socket: { path, reconnect: { delay: 20, maxDelay: 100 } },
    ack: { ackTimeout: 10_000 },
  });
  const report = (line) => process.stdout.write(line + "\n");
  let last;
  lines.on("line", (line) => {
    last = client.emit("web", { message: JSON.parse(line) }).then(() => report(line), () => {});
  });
  lines.on("close", async () => {
    await last; // acknowledgements come in order
    await client.disconnect();
  });
}
