// Any number of socket.io-client connections, driven by lines of JSON on the standard input.
//
// Reads `PARLOR_ADDRESS` from the environment. A line is one of
//   {"do": "connect", "as": "<name>", "options": {...}}    {"do": "close", "as": "<name>"}
//   {"do": "emit", "as": "<name>", "event": "<event>", "args": [...]}
//   {"do": "ask", "as": "<name>", "event": "<event>", "args": [...]}    the answer comes as {"as", "answer": [...]}
// Prints {"as": "<name>", "event": "<event>", "args": [...]} for every event, also for `connect`, `connect_error`,
// `disconnect` and, when the transport is changed, `upgrade`.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const require = createRequire(process.env.PARLOR_TEST_NODE_MODULES + '/')
const { io } = require('socket.io-client')

const sockets = new Map()
const say = (line) => console.log(JSON.stringify(line))

const connect = (as, options) => {
  const socket = io(`http://${process.env.PARLOR_ADDRESS}`, { forceNew: true, reconnectionDelay: 100, ...options })
  sockets.set(as, socket)
  socket.on('connect', () => say({ as, event: 'connect', args: [socket.io.engine.transport.name] }))
  socket.on('connect_error', (error) => say({ as, event: 'connect_error', args: [error.message] }))
  socket.on('disconnect', (reason) => say({ as, event: 'disconnect', args: [reason] }))
  socket.onAny((event, ...args) => say({ as, event, args }))
  socket.io.on('open', () => {
    socket.io.engine.on('upgrade', (transport) => say({ as, event: 'upgrade', args: [transport.name] }))
  })
}

for await (const text of createInterface({ input: process.stdin })) {
  const { do: what, as, event, args = [], options = {} } = JSON.parse(text)
  if (what === 'connect') connect(as, options)
  if (what === 'close') sockets.get(as).close()
  if (what === 'emit') sockets.get(as).emit(event, ...args)
  if (what === 'ask') sockets.get(as).emit(event, ...args, (...answer) => say({ as, answer }))
}
