// Strict decoders for untrusted input: base64url without padding (RFC 7515, section 2) and JSON objects without
// duplicate names (RFC 8725, section 2.4). They throw SyntaxError.

const MAX_DEPTH = 16
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Decode base64url. Each byte string has exactly one text: padding, line breaks and other alphabets are refused. */
export function decodeBase64url(text) {
  const bytes = Buffer.from(text, 'base64url')
  // Node's decoder ignores what it does not understand, so only the same text written again proves it was well formed.
  if (bytes.toString('base64url') !== text) throw new SyntaxError('not canonical base64url')
  return bytes
}

/** Parse the JSON object in `bytes` (UTF-8). */
export function parseObject(bytes) {
  let text, value
  try {
    text = utf8.decode(bytes)
  } catch {
    throw new SyntaxError('not UTF-8')
  }
  value = JSON.parse(text)
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new SyntaxError('not an object')
  requireUnambiguous(text)
  return value
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],]|-?[0-9][0-9.eE+-]*/g

/** Refuse what JSON.parse accepts and parsers read differently. `text` is known to be JSON. */
function requireUnambiguous(text) {
  const open = [] // for each open object the set of its names, for each open array null
  let nameFollows = false
  for (const [token] of text.matchAll(TOKENS)) {
    if (token === '{' || token === '[') {
      open.push(token === '{' ? new Set() : null)
      if (open.length > MAX_DEPTH) throw new SyntaxError('nested too deep')
      nameFollows = token === '{'
    } else if (token === '}' || token === ']') {
      open.pop()
      nameFollows = false
    } else if (token === ',') {
      nameFollows = open.at(-1) !== null
    } else if (token[0] === '"') {
      const decoded = JSON.parse(token)
      if (!decoded.isWellFormed()) throw new SyntaxError('a lone surrogate')
      if (nameFollows) {
        if (open.at(-1).has(decoded)) throw new SyntaxError('a duplicate name')
        open.at(-1).add(decoded)
        nameFollows = false
      }
    } else if (!Number.isFinite(Number(token))) {
      throw new SyntaxError('a number beyond all floats')
    }
  }
}
