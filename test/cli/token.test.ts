/** `troupe token`: an identity that is kept, and a new secret each time. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fingerprintOf } from "../../runtime/security/certificate.ts";
import { parseToken } from "../../runtime/security/token.ts";
import { troupe } from "./troupe.ts";

let folder: string;
let identity: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-token-"));
  identity = join(folder, "settings", "troupe");
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("the certificate is kept, for its owner only, and the secret is new each time", async () => {
  const first = await troupe("token", "--identity", identity);
  expect(first).toMatchObject({ code: 0, err: "" });
  const file = join(identity, "identity.pem");
  const kept = readFileSync(file, "utf8");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const second = await troupe("token", "--identity", identity, "--json");
  const { token, ...event } = second.events[0]!;
  const coordinator = fingerprintOf(kept);
  expect(event).toEqual({ event: "token", fingerprint: coordinator, identity });
  expect(readFileSync(file, "utf8")).toBe(kept);

  const [one, other] = [parseToken(first.out.trimEnd()), parseToken(token)];
  expect([one.coordinator, other.coordinator]).toEqual([coordinator, coordinator]);
  expect(one.secret).not.toEqual(other.secret);
}, 120_000);

test("by default it is kept with the user's settings", async () => {
  process.env.XDG_CONFIG_HOME = folder;
  try {
    const { events } = await troupe("token", "--json");
    expect(events[0]!.identity).toBe(join(folder, "troupe"));
    expect(existsSync(join(folder, "troupe", "identity.pem"))).toBe(true);
  } finally {
    delete process.env.XDG_CONFIG_HOME;
  }
}, 120_000);

test("an identity that others can read, or that is damaged, is refused and left as it is", async () => {
  await troupe("token", "--identity", identity);
  const file = join(identity, "identity.pem");
  if (process.platform !== "win32") {
    chmodSync(file, 0o644);
    const open = await troupe("token", "--identity", identity);
    expect(open.code).toBe(1);
    expect(open.err).toMatch(/^troupe: \S+identity.pem can be read by others [^\n]*chmod 600[^\n]*\n$/);
    chmodSync(file, 0o600);
  }
  writeFileSync(file, "something else");
  const damaged = await troupe("token", "--identity", identity);
  expect(damaged.code).toBe(1);
  expect(damaged.err).toMatch(/^troupe: \S+identity.pem is not a certificate and its key[^\n]*\n$/);
  expect(readFileSync(file, "utf8")).toBe("something else");
  rmSync(file);
  mkdirSync(file);
  const folderThere = await troupe("token", "--identity", identity);
  expect(folderThere.code).toBe(1);
  expect(folderThere.err).toMatch(/^troupe: cannot read \S+identity.pem: it is not a file\n$/);
}, 120_000);
