/**
 * A device's lasting identity: its certificate and key, in one file of a folder that only its owner may read. One
 * file, so there is never half an identity. It is made once and never replaced: tokens carry its fingerprint.
 */

import { FileError } from "../platform/files.ts";
import { readPrivate, writePrivate } from "../platform/private.ts";
import { type Certificate, createCertificate, fingerprintOf } from "./certificate.ts";

const FILE = "identity.pem";
const PARTS =
  /^(-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\s+)(-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\s*)$/;

/** The identity in a folder; null when there is none. @throws FileError when it is damaged, or open to others. */
export async function readIdentity(folder: string): Promise<Certificate | null> {
  const path = `${folder}/${FILE}`;
  const text = await readPrivate(path);
  if (text === null) return null;
  const [, certificate, key] = PARTS.exec(text) ?? [];
  if (certificate === undefined || key === undefined) {
    const message = `${path} is not a certificate and its key: move it away, and troupe token makes a new one`;
    throw new FileError("other", path, message);
  }
  return { certificate, key, fingerprint: fingerprintOf(certificate) };
}

/** The identity in a folder, made when there is none. @throws FileError. */
export async function keepIdentity(folder: string): Promise<Certificate> {
  const kept = await readIdentity(folder);
  if (kept) return kept;
  const made = await createCertificate();
  await writePrivate(`${folder}/${FILE}`, `${made.certificate.trim()}\n${made.key.trim()}\n`);
  return made;
}
