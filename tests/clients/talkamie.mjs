// A client of the Talkamie socket on the library `ws`: signs in with PARLOR_TOKEN, prints every frame as a line of JSON,
// and sends what it reads from its input, a frame a line.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(`${process.env.PARLOR_TEST_NODE_MODULES}/`);
const WebSocket = require("ws");

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const socket = new WebSocket(`ws://${process.env.PARLOR_ADDRESS}/talkamie/ws`);

socket.on("open", () => {
  socket.send(JSON.stringify({ action: "authenticate", token: process.env.PARLOR_TOKEN }));
});
socket.on("message", (data) => print(JSON.parse(data.toString())));
socket.on("close", (code) => {
  print({ closed: code });
  process.exit(0);
});

for await (const line of createInterface({ input: process.stdin })) {
  const frame = JSON.parse(line);
  if (frame.close) socket.close();
  else socket.send(JSON.stringify(frame));
}
