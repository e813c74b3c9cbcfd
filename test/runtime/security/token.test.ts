import { expect, test } from "bun:test";
import { seededRandom } from "../../../runtime/random.ts";
import {
  coordinatorOf,
  createToken,
  looksLikeToken,
  parseToken,
  TokenError,
} from "../../../runtime/security/token.ts";

const random = seededRandom(3);
const fingerprint = "0f".repeat(32);

function refusal(text: string): string {
  try {
    parseToken(text);
    return "accepted";
  } catch (error) {
    expect(error).toBeInstanceOf(TokenError);
    return (error as Error).message;
  }
}

test.each([undefined, fingerprint])(
  "carries a secret and the coordinator's fingerprint (%s)",
  (coordinator) => {
    const token = createToken(random, coordinator);
    expect(token).toMatch(/^troupe1_[\w-]+$/);
    expect(encodeURIComponent(token)).toBe(token);
    expect(looksLikeToken(token)).toBe(true);
    const parsed = parseToken(token);
    expect(parsed.secret.byteLength).toBe(32);
    expect(parsed.coordinator).toBe(coordinator);
    expect(coordinatorOf(token)).toBe(coordinator);
  },
);

test("two are never the same", () => {
  expect(createToken(random)).not.toBe(createToken(random));
});

test("one wrong letter anywhere, one missing or one too many is found", () => {
  const token = createToken(random, fingerprint);
  for (let at = "troupe1_".length; at < token.length; at++) {
    const other = token[at] === "A" ? "B" : "A";
    expect(refusal(token.slice(0, at) + other + token.slice(at + 1))).toContain("wrong letter");
    expect(refusal(token.slice(0, at) + token.slice(at + 1))).not.toBe("accepted");
  }
  expect(refusal(`${token}A`)).not.toBe("accepted");
  expect(refusal(`${token} `)).toContain("cut off or has something added");
  expect(refusal(token.slice(0, 20))).toContain("cut off");
});

test("something else, and a token of another version, are told apart", () => {
  expect(refusal("secret")).toContain("make one with troupe token");
  expect(refusal(createToken(random).replace("troupe1", "troupe9"))).toContain("of version 9");
});

test("what is wrong is told without the token", () => {
  const token = createToken(random, fingerprint);
  for (const wrong of [token.slice(2), token.slice(0, -1), `${token}!`, token.replace("1_", "2_")]) {
    const said = refusal(wrong);
    for (let at = 8; at + 6 < wrong.length; at++) expect(said).not.toContain(wrong.slice(at, at + 6));
  }
});

test("any other secret names no coordinator", () => {
  expect(coordinatorOf("a secret that both ends know")).toBeUndefined();
  expect(coordinatorOf(undefined)).toBeUndefined();
  expect(() => coordinatorOf("troupe1_short")).toThrow(TokenError);
});
