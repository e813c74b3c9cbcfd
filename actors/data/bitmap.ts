/**
 * Pictures in the plainest formats: PGM and PPM (Netpbm, binary, eight bits) and BMP (uncompressed, with 8, 24 or 32
 * bits a pixel). What is compressed is a library's to read.
 */

import { type PictureFormat, planar } from "./picture.ts";

const WHITESPACE = new Set([0x20, 0x09, 0x0a, 0x0b, 0x0c, 0x0d]);
const HASH = 0x23;
const NEWLINE = 0x0a;

/** PGM (P5) and PPM (P6). Source: the Netpbm manual, "PGM format specification" and "PPM format specification". */
export const netpbm: PictureFormat = {
  name: "PGM/PPM",
  extensions: [".pgm", ".ppm", ".pnm"],
  recognises: (bytes) => bytes[0] === 0x50 && bytes[1]! >= 0x31 && bytes[1]! <= 0x36,
  decode(bytes) {
    const kind = bytes[1]! - 0x30;
    if (kind !== 5 && kind !== 6) {
      throw new Error(`it is a Netpbm P${kind} file; the binary forms P5 and P6 are read`);
    }
    let at = 2;
    const header = ["width", "height", "largest value"].map((what) => {
      while (WHITESPACE.has(bytes[at]!) || bytes[at] === HASH) {
        if (bytes[at] === HASH) while (at < bytes.length && bytes[at] !== NEWLINE) at++;
        at++;
      }
      const start = at;
      while (bytes[at]! >= 0x30 && bytes[at]! <= 0x39) at++;
      const value = Number(String.fromCharCode(...bytes.subarray(start, Math.min(at, start + 10))));
      if (at === start || value === 0) throw new Error(`its header has no ${what}`);
      return value;
    });
    const [width, height, most] = header as [number, number, number];
    if (most > 255) throw new Error(`its values go up to ${most}; eight bits, up to 255, are read`);
    const channels = kind === 5 ? 1 : 3;
    const data = bytes.subarray(at + 1);
    const expected = width * height * channels;
    requireBytes(data.length, expected, width, height);
    const samples = data.subarray(0, expected);
    const scaled =
      most === 255 ? samples : samples.map((value) => Math.round((Math.min(value, most) * 255) / most));
    return planar(scaled, { width, height }, channels);
  },
};

/** Windows bitmaps. Source: Microsoft, "Bitmap Storage" (BITMAPFILEHEADER, BITMAPINFOHEADER). */
export const bmp: PictureFormat = {
  name: "BMP",
  extensions: [".bmp"],
  recognises: (bytes) => bytes[0] === 0x42 && bytes[1] === 0x4d,
  decode(bytes) {
    if (bytes.length < 54) throw new Error("it ends in its header");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const pixelsAt = view.getUint32(10, true);
    const tableAt = 14 + view.getUint32(14, true);
    const [width, rows] = [view.getInt32(18, true), view.getInt32(22, true)];
    const [bits, compression] = [view.getUint16(28, true), view.getUint32(30, true)];
    const height = Math.abs(rows);
    if (width <= 0 || height === 0) throw new Error(`its size is ${width}x${height}`);
    // Compression 3 names the channels of 32 bits by masks; the usual ones are the order of the uncompressed form.
    if (![8, 24, 32].includes(bits) || !(compression === 0 || (compression === 3 && bits === 32))) {
      throw new Error(
        `it has ${bits} bits a pixel with compression ${compression}; 8, 24 or 32 without are read`,
      );
    }
    const stride = Math.ceil((width * bits) / 32) * 4;
    requireBytes(bytes.length - pixelsAt, stride * height, width, height);
    const plane = width * height;
    const pixels = new Uint8Array(3 * plane);
    const step = bits / 8;
    for (let y = 0; y < height; y++) {
      // A positive height counts rows from the bottom.
      let from = pixelsAt + (rows > 0 ? height - 1 - y : y) * stride;
      for (let to = y * width; to < (y + 1) * width; to++, from += step) {
        const colour = bits === 8 ? tableAt + 4 * bytes[from]! : from;
        if (colour + 2 >= bytes.length) throw new Error("its palette has not all the colours that it uses");
        pixels[to] = bytes[colour + 2]!;
        pixels[plane + to] = bytes[colour + 1]!;
        pixels[2 * plane + to] = bytes[colour]!;
      }
    }
    return { width, height, channels: 3, pixels };
  },
};

/** Formats that are read without a library. */
export const BITMAPS: readonly PictureFormat[] = [netpbm, bmp];

function requireBytes(found: number, expected: number, width: number, height: number): void {
  if (found < expected) {
    throw new Error(
      `${width}x${height} pixels take ${expected} bytes, ${Math.max(0, found)} follow its header`,
    );
  }
}
