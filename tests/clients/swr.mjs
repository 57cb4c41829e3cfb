// The messenger API as a React page uses it: the `useSWR` hook with its cache, in a document made by jsdom.
//
// Reads `PARLOR_ADDRESS`, `CONVERSATION` and `ACCOUNT` from the environment, prints one JSON line per step.
import { createRequire } from 'node:module'

const require = createRequire(process.env.PARLOR_TEST_NODE_MODULES + '/')
const { JSDOM } = require('jsdom')
const dom = new JSDOM('<!doctype html><div id="root"></div>', { url: `http://${process.env.PARLOR_ADDRESS}/`, pretendToBeVisual: true })
for (const name of ['window', 'document', 'navigator', 'HTMLElement', 'Node']) {
  Object.defineProperty(globalThis, name, { value: name === 'window' ? dom.window : dom.window[name], configurable: true, writable: true })
}
globalThis.IS_REACT_ACT_ENVIRONMENT = false

const React = require('react')
const { createRoot } = require('react-dom/client')
const { default: useSWR } = require('swr')

const base = `http://${process.env.PARLOR_ADDRESS}`
const path = `/api/${process.env.ACCOUNT}/conversation/${process.env.CONVERSATION}/messages`
const fetcher = async (url, options) => {
  const response = await fetch(base + url, options)
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
  return response.json()
}
const say = (step, page) => console.log(JSON.stringify({ step, rows: page.rows.map((row) => row.text), ids: page.rows.map((row) => row.id) }))

let shown
let mutate
function Messages() {
  const swr = useSWR(`${path}?pageSize=3`, fetcher, { dedupingInterval: 0 })
  shown = swr.data
  mutate = swr.mutate
  return React.createElement('ul', null, (swr.data?.rows ?? []).map((row) => React.createElement('li', { key: row.id }, row.text)))
}

const until = async (what, condition) => {
  for (let tries = 0; tries < 500; tries++) {
    if (condition()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`never: ${what}`)
}
const items = () => [...document.querySelectorAll('li')].map((item) => item.textContent)

createRoot(document.getElementById('root')).render(React.createElement(Messages))
await until('the first page', () => shown && items().length === 3)
say('first', shown)

// Older messages: the page of the older cursor is merged without asking for the first page anew.
const older = await fetcher(`${path}?pageSize=3&cursor=${shown.cursor_prev}`)
await mutate(
  { rows: [...shown.rows, ...[...older.rows].reverse()], sort: 'NEWEST_FIRST', cursor_next: shown.cursor_next, cursor_prev: older.cursor_next },
  { revalidate: false },
)
await until('the older messages', () => items().length === 6)
say('older', shown)

// A message is sent: a temporary row at once, then the row that the server answers with.
const before = shown
const sent = await mutate(
  async () => {
    const row = await fetcher(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ text: 'sent by the hook' }) })
    return { ...before, rows: [row, ...before.rows] }
  },
  { optimisticData: { ...before, rows: [{ id: 'temporary', text: 'sent by the hook', ts: 0 }, ...before.rows] }, revalidate: false },
)
await until('the sent message', () => shown.rows[0].id === sent.rows[0].id && items()[0] === 'sent by the hook')
say('sent', shown)

// Newer messages: the cursor of the newest row of the first page finds exactly those that came since.
const newer = await fetcher(`${path}?pageSize=3&cursor=${before.cursor_next}`)
say('newer', newer)

// A revalidation reads what was just sent.
await mutate()
await until('the first page anew', () => items().length === 3)
say('revalidated', shown)
process.exit(0)
