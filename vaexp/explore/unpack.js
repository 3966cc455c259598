// Tensors out of the text of the page: base64, deflated, the bytes of each tensor in planes.

// Put the arrays of a run in place of their descriptions { at, length, bytes }, at every depth.
export async function unpack(description, text) {
  const data = await inflate(text);
  const fill = (value) => {
    if (Array.isArray(value)) return value.map(fill);
    if (value === null || typeof value !== "object") return value;
    if ("at" in value) return arrayOf(data, value);
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, fill(part)]));
  };
  return fill(description);
}

async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Of n numbers, all lowest bytes stand first, then all second lowest: like bytes deflate well.
function arrayOf(data, { at, length, bytes }) {
  if (bytes === 1) return data.slice(at, at + length);
  const words = new Uint32Array(length);
  for (let plane = 0; plane < bytes; plane += 1) {
    const start = at + plane * length;
    for (let i = 0; i < length; i += 1) words[i] |= data[start + i] << (8 * plane);
  }
  return bytes === 4 ? new Float32Array(words.buffer) : Float32Array.from(words, ofHalf);
}

// A float16 with 1 bit of sign, 5 of exponent and 10 of fraction.
function ofHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -24 * fraction;
}
