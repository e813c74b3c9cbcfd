/** The rule by which test/fixtures/models/export.py gives values to parameters and batches: a hash of name and index. */

import { elements, type Shape, Tensor } from "../../../protocols/tensor.ts";

const CRC = Uint32Array.from({ length: 256 }, (_, i) => {
  let c = i;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  return c;
});

function crc32(text: string): number {
  let c = 0xffffffff;
  for (const byte of new TextEncoder().encode(text)) c = CRC[(c ^ byte) & 0xff]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** Numbers of [-1, 1) that follow from a name. */
export function uniform(name: string, count: number): Float64Array {
  const seed = crc32(name);
  return Float64Array.from({ length: count }, (_, i) => {
    let x = (Math.imul(i, 2654435761) + seed) | 0;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return ((x ^ (x >>> 16)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Bytes of a parameter, f32; `<name>.T` is the transposed matrix. */
export function parameterData(location: string, shapes: Readonly<Record<string, Shape>>): Uint8Array {
  const transposed = !Object.hasOwn(shapes, location);
  const name = transposed ? location.replace(/\.T$/, "") : location;
  const shape = shapes[name];
  if (!shape) throw new Error(`no parameter ${name}`);
  const [rows, columns] = [shape[0]!, elements(shape.slice(1))];
  const u = uniform(name, rows * columns);
  const scale = Math.sqrt(3 / columns);
  const shift = name.endsWith("weight") ? 1 : 0;
  const values = Float32Array.from(u, (x) => (shape.length >= 2 ? x * scale : x * 0.1 + shift));
  const data = transposed
    ? Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!)
    : values;
  return new Uint8Array(data.buffer);
}

export const floats = (name: string, step: number, shape: Shape): Tensor =>
  Tensor.f32(shape, Float32Array.from(uniform(`${name}.${step}`, elements(shape))));

export const integers = (name: string, step: number, shape: Shape, below: number): Tensor =>
  Tensor.i64(
    shape,
    Array.from(uniform(`${name}.${step}`, elements(shape)), (u) => Math.floor(((u + 1) / 2) * below)),
  );
