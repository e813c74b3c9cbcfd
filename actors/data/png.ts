/** Pictures in PNG, decoded by fast-png. Transparency is left out, palettes are looked up, 16 bits become 8. */

import { convertIndexedToRgb, decode, hasPngSignature } from "fast-png";
import { type PictureFormat, planar } from "./picture.ts";

export const png: PictureFormat = {
  name: "PNG",
  extensions: [".png"],
  recognises: (bytes) => hasPngSignature(bytes.subarray(0, 8)),
  decode: (bytes) => {
    const image = decode(bytes, { checkCrc: true });
    const { width, height, depth } = image;
    if (image.palette) return planar(convertIndexedToRgb(image), { width, height }, image.palette[0]!.length);
    if (depth < 8) return { width, height, channels: 1, pixels: unpacked(image.data, width, height, depth) };
    const samples = depth === 16 ? Uint8Array.from(image.data, (value) => value >> 8) : image.data;
    return planar(samples as Uint8Array, { width, height }, image.channels);
  },
};

/** Grey of 1, 2 or 4 bits a pixel, spread over 0 to 255; rows begin at whole bytes. */
function unpacked(data: ArrayLike<number>, width: number, height: number, depth: number): Uint8Array {
  const most = 2 ** depth - 1;
  const row = Math.ceil((width * depth) / 8);
  return Uint8Array.from({ length: width * height }, (_, i) => {
    const bit = (i % width) * depth;
    const byte = data[Math.floor(i / width) * row + (bit >> 3)]!;
    return (((byte >> (8 - depth - (bit & 7))) & most) * 255) / most;
  });
}
