/** Pictures decoded as Pillow does; the files were made by it. */

import { expect, test } from "bun:test";
import { jpeg } from "../../../actors/data/jpeg.ts";
import { png } from "../../../actors/data/png.ts";

const bytes = (base64: string) => Uint8Array.fromBase64(base64);

/** 7 × 5 pixels; then what Pillow reads, planar. */
const PNG: Readonly<Record<string, readonly [file: string, pixels: string]>> = {
  colours: [
    "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAFCAIAAAAG+GGPAAAAJUlEQVR4nGNgUPXKn7LzHrOGb9H0PQ/ZtANKZ+1/wsSJDVAuCgAU1gxXcnDScQAAAABJRU5ErkJggg==",
    "0,111,222,77,188,43,154,9,120,231,86,197,52,163,18,129,240,95,206,61,172,27,138,249,104,215,70,181,36,147,2,113,224,79,190,37,148,3,114,225,80,191,46,157,12,123,234,89,200,55,166,21,132,243,98,209,64,175,30,141,252,107,218,73,184,39,150,5,116,227,74,185,40,151,6,117,228,83,194,49,160,15,126,237,92,203,58,169,24,135,246,101,212,67,178,33,144,255,110,221,76,187,42,153,8",
  ],
  grey: [
    "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAFCAAAAACs8akEAAAAG0lEQVR4nGOQ6/XM3uu5g4kTArDQeziLOd8AAISCBiKGnI+JAAAAAElFTkSuQmCC",
    "30,141,73,107,189,73,184,39,150,82,116,198,82,193,48,159,91,125,207,91,202,57,168,100,134,216,100,211,66,177,32,143,75,109,191",
  ],
  transparency: [
    "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAFCAYAAACJmvbYAAAAMElEQVR4nGNgUPX6nz9l5/97zBr/fYum/9/zkO2/dkDp/1n7n/xn4uTkZMCFaSQJAOrgE1CCEgqDAAAAAElFTkSuQmCC",
    "0,111,222,77,188,43,154,9,120,231,86,197,52,163,18,129,240,95,206,61,172,27,138,249,104,215,70,181,36,147,2,113,224,79,190,37,148,3,114,225,80,191,46,157,12,123,234,89,200,55,166,21,132,243,98,209,64,175,30,141,252,107,218,73,184,39,150,5,116,227,74,185,40,151,6,117,228,83,194,49,160,15,126,237,92,203,58,169,24,135,246,101,212,67,178,33,144,255,110,221,76,187,42,153,8",
  ],
  "a palette": [
    "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAFBAMAAAB7tOvrAAAAMFBMVEXJ7mjF6g+94gejyO2TuN2BpstwlbpfhKmHV3xCZ4zoDTLeAygsUXYXPGEGK1AAJUoMc+RhAAAAIklEQVR4nGP4tlPHgeXDuw8sTO8Z/jIwMfxnYGA48m2nAgCMeAp0UuqpWwAAAABJRU5ErkJggg==",
    "0,112,222,66,189,44,147,6,112,232,95,197,44,163,23,129,232,95,197,66,163,23,129,232,112,197,66,163,44,147,0,112,222,66,189,37,149,3,103,226,81,184,43,149,13,132,234,81,200,60,166,13,132,234,103,200,60,166,13,149,234,103,200,81,184,37,149,3,103,226,74,186,40,140,7,118,221,80,186,50,169,15,118,237,97,203,50,169,15,140,237,97,203,50,186,15,140,237,118,221,74,186,40,140,7",
  ],
  "black and white": [
    "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAFAQAAAACh4ct1AAAAEklEQVR4nGPwYmJgEmBiYPoBAAQUAVun92BRAAAAAElFTkSuQmCC",
    "0,255,0,0,255,0,255,0,255,0,0,255,0,255,0,255,0,255,255,0,255,0,255,0,255,255,0,255,0,255,0,255,0,0,255",
  ],
};

/** 32 × 24 pixels; then every eighth pixel of every eighth row as Pillow reads it, planar. */
const JPEG: Readonly<Record<string, readonly [file: string, pixels: string]>> = {
  baseline: [
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/wAARCAAYACADASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwD89l+G3/TL9KlX4bf9Mv0r6lX4bf8ATL9KmX4bf9Mv0oA+WV+G3/TL9KmX4bf9Mv0r6lX4bf8ATL9KlX4bf9Mv0oA+m1+G3/TL9KlX4bf9Mv0oooAmX4bf9Mv0qVfht/0y/SiigD//2Q==",
    "0,2,4,6,64,66,68,70,128,130,132,134,0,2,4,6,64,66,68,70,128,130,132,134,0,2,4,6,64,66,68,70,128,130,132,134",
  ],
  progressive: [
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/wgARCAAYACADASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAgAHCP/EABQBAQAAAAAAAAAAAAAAAAAAAAD/2gAMAwEAAhADEAAAAeenqTMsepo05UN0f//EABUQAQEAAAAAAAAAAAAAAAAAAAAV/9oACAEBAAEFApqampqampqampqamv/EABQRAQAAAAAAAAAAAAAAAAAAACD/2gAIAQMBAT8BH//EABQRAQAAAAAAAAAAAAAAAAAAACD/2gAIAQIBAT8BH//EABUQAQEAAAAAAAAAAAAAAAAAAAAx/9oACAEBAAY/AoiIiIiIiP/EABUQAQEAAAAAAAAAAAAAAAAAAAAB/9oACAEBAAE/IYIIIIIIIIIIIP/aAAwDAQACAAMAAAAQs0cg/8QAFBEBAAAAAAAAAAAAAAAAAAAAIP/aAAgBAwEBPxAf/8QAFBEBAAAAAAAAAAAAAAAAAAAAIP/aAAgBAgEBPxAf/8QAFhAAAwAAAAAAAAAAAAAAAAAAAAHw/9oACAEBAAE/EJomiaJomiaJomiaJomiaP/Z",
    "0,2,4,6,64,66,68,70,128,130,132,134,0,2,4,6,64,66,68,70,128,130,132,134,0,2,4,6,64,66,68,70,128,130,132,134",
  ],
};

for (const [name, [file, pixels]] of Object.entries(PNG)) {
  test(`PNG with ${name}`, () => {
    expect(png.recognises(bytes(file))).toBe(true);
    const picture = png.decode(bytes(file));
    expect([picture.width, picture.height]).toEqual([7, 5]);
    expect(picture.pixels.join()).toBe(pixels);
    expect(picture.pixels).toHaveLength(35 * picture.channels);
  });
}

for (const [name, [file, pixels]] of Object.entries(JPEG)) {
  test(`JPEG, ${name}`, () => {
    expect(jpeg.recognises(bytes(file))).toBe(true);
    const { width, height, channels, pixels: got } = jpeg.decode(bytes(file));
    expect([width, height, channels]).toEqual([32, 24, 3]);
    const some = pixels.split(",").map(Number);
    // Decoders may round and interpolate colours differently.
    some.forEach((value, i) => {
      const [channel, row, column] = [Math.floor(i / 12), Math.floor(i / 4) % 3, i % 4];
      const at = (channel * height + row * 8) * width + column * 8;
      expect(Math.abs(got[at]! - value), `${channel} ${row} ${column}`).toBeLessThanOrEqual(6);
    });
  });
}

test.each([
  ["PNG", png, PNG.colours!],
  ["JPEG", jpeg, JPEG.baseline!],
] as const)("a truncated %s is refused", (_, format, [file]) => {
  expect(() => format.decode(bytes(file).slice(0, bytes(file).length / 2))).toThrow();
});
