// A view of the very bytes of a buffer, wherever they lie in their memory.

export function dataView(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
