// Chromium, driven line by line: each line of standard input is a call as JSON, and gets one line of JSON as its answer.
//
// `node browser.mjs CHROMIUM LD_LIBRARY_PATH`. A call names its page by a number; the first call of a page opens it in a context of its own.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const [executablePath, LD_LIBRARY_PATH] = process.argv.slice(2)
// Containers often have a small /dev/shm.
const args = ['--disable-dev-shm-usage', '--disable-gpu']
const browser = await chromium.launch({ executablePath, args, env: { ...process.env, LD_LIBRARY_PATH } })
const pages = new Map()

async function opened({ page: number, options }) {
  if (!pages.has(number)) {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options })
    context.setDefaultTimeout(60_000) // a machine may be busy
    const page = await context.newPage()
    const messages = []
    page.on('console', (message) => messages.push(`${message.type()}: ${message.text()}`))
    page.on('pageerror', (error) => messages.push(`pageerror: ${error.message}`))
    const requests = []
    page.on('request', (request) => requests.push(request.url()))
    pages.set(number, { context, page, messages, requests })
  }
  return pages.get(number)
}

const state = async (page, response) => ({
  url: page.url(),
  status: response?.status() ?? null,
  headers: (await response?.allHeaders()) ?? {},
  text: await page.locator('body').innerText(),
})

const calls = {
  goto: async ({ page }, { url }) => state(page, await page.goto(url, { waitUntil: 'load' })),
  look: ({ page }) => state(page),
  fill: ({ page }, { label, value }) => page.getByLabel(label).fill(value),
  // `until`: a regular expression of the URL to wait for.
  async press({ page }, { button, role, until }) {
    const target = page.getByRole(role ?? 'button', { name: button, exact: true })
    await Promise.all([page.waitForURL(new RegExp(until), { waitUntil: 'load' }), target.click()])
    return state(page)
  },
  keyboard: ({ page }, { key }) => page.keyboard.press(key),
  focused: ({ page }) =>
    page.evaluate(() => {
      const { tagName, textContent, labels } = document.activeElement
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement)
      const name = labels?.[0]?.textContent ?? textContent
      return { tag: tagName.toLowerCase(), name: name.trim(), outline: `${outlineStyle} ${outlineWidth}` }
    }),
  // The number of elements that match a CSS selector.
  count: ({ page }, { selector }) => page.locator(selector).count(),
  screenshot: ({ page }, { path }) => page.screenshot({ path, fullPage: true }),
  // The pixels by which the page is wider than the window.
  overflow: ({ page }) => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth),
  cookies: ({ context }) => context.cookies(),
  console: ({ messages }) => messages.splice(0),
  requests: ({ requests }) => requests.splice(0),
  // A browser without a window shows all of its tabs, so the document is told that it is hidden.
  hide: ({ page }, { hidden }) =>
    page.evaluate((value) => {
      Object.defineProperty(document, 'hidden', { configurable: true, value })
      dispatchEvent(new Event('visibilitychange'))
    }, hidden),
  // The debugger evaluates axe-core, which the policy of the page would refuse.
  async axe({ page }) {
    await page.evaluate(axe)
    const { violations } = await page.evaluate('axe.run()')
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((each) => each.html).join(' ')}`)
  },
  // Returns the text that a frame shows.
  async framed({ page }, { around, url }) {
    await page.goto(around)
    await page.setContent(`<!doctype html><title>frame</title><iframe src="${url.replaceAll('&', '&amp;')}"></iframe>`, {
      waitUntil: 'load',
    })
    const frame = page.frames().find((each) => each !== page.mainFrame())
    return frame.locator('body').innerText()
  },
  async close({ context }, { page: number }) {
    pages.delete(number)
    await context.close()
  },
}

console.log(JSON.stringify({ ok: browser.version() }))
for await (const line of createInterface({ input: process.stdin })) {
  const call = JSON.parse(line)
  try {
    console.log(JSON.stringify({ ok: (await calls[call.call](await opened(call), call)) ?? null }))
  } catch (error) {
    console.log(JSON.stringify({ error: error.message }))
  }
}
await browser.close()
