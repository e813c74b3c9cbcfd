import { expect, test } from "bun:test";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { createCertificate, fingerprintOf, shortFingerprint } from "../../../runtime/security/certificate.ts";

test("is signed by its own key, on P-256, valid on any clock, and known by its SHA-256", async () => {
  const made = await createCertificate();
  const read = new X509Certificate(made.certificate);
  expect(read.checkPrivateKey(createPrivateKey(made.key))).toBe(true);
  expect(read.verify(read.publicKey)).toBe(true);
  expect(read.publicKey.asymmetricKeyDetails).toMatchObject({ namedCurve: "prime256v1" });
  expect(Date.parse(read.validFrom)).toBe(0);
  expect(new Date(read.validTo).getUTCFullYear()).toBe(9999);
  expect(made.fingerprint).toBe(read.fingerprint256.replaceAll(":", "").toLowerCase());
  expect(fingerprintOf(`some words before\n${made.certificate}`)).toBe(made.fingerprint);
});

test("two are never the same", async () => {
  const [one, other] = await Promise.all([createCertificate(), createCertificate()]);
  expect(one.fingerprint).not.toBe(other.fingerprint);
});

test("people see the beginning of a fingerprint", () => {
  expect(shortFingerprint("0123456789abcdef".repeat(4))).toBe("0123 4567 89ab cdef");
});

test("what is no certificate is refused", () => {
  expect(() => fingerprintOf("-----BEGIN PRIVATE KEY-----")).toThrow("PEM");
});
