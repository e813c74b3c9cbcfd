import { expect, test } from "bun:test";
import { equalBytes, mac, sha256 } from "../../protocols/mac.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const text = (words: string) => new TextEncoder().encode(words);

test("SHA-256 is that of FIPS 180-4, example B.1", () => {
  expect(hex(sha256(text("abc")))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});

test("the code is HMAC-SHA-256 over the parts with their lengths", async () => {
  const key = text("key");
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const theirs = await crypto.subtle.importKey("raw", key, algorithm, false, ["sign"]);
  const message = Uint8Array.of(0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 2, 8, 9);
  const code = mac(key, Uint8Array.of(7), new Uint8Array(0), Uint8Array.of(8, 9));
  expect(hex(code)).toBe(hex(new Uint8Array(await crypto.subtle.sign("HMAC", theirs, message))));
});

test("where one part ends and the next begins makes a difference", () => {
  const key = text("key");
  expect(equalBytes(mac(key, text("ab"), text("c")), mac(key, text("a"), text("bc")))).toBe(false);
});

test("equal bytes are equal, and nothing else is", () => {
  expect(equalBytes(text("same"), text("same"))).toBe(true);
  expect(equalBytes(text("same"), text("sane"))).toBe(false);
  expect(equalBytes(text("same"), text("some more"))).toBe(false);
  expect(equalBytes(new Uint8Array(0), new Uint8Array(0))).toBe(true);
});
