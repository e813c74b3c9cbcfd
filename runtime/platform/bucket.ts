/**
 * A bucket of an S3-compatible store (Amazon S3, MinIO, Cloudflare R2, …), over Bun's own client. Whole objects by
 * key, nothing else; what fails is a `FileError` of one line, as with files on disk. Other platforms have no such
 * client built in, and are told so.
 *
 * Credentials come from the environment, under the names of Bun (`S3_…`) or of Amazon's tools (`AWS_…`):
 * access key id, secret access key, session token, region, and for other stores than Amazon's the endpoint's URL.
 */

import { type Chunks, FileError, type FileReason } from "./files.ts";
import { environment } from "./process.ts";

export interface Bucket {
  /** The whole object, in memory of the caller's own; null where there is none. */
  get(key: string): Promise<Uint8Array | null>;
  /** Puts an object in the place of any other: it is there as a whole, or not at all. */
  put(key: string, chunks: Chunks): Promise<void>;
  /** Keys that begin with a prefix, in no particular order. */
  list(prefix: string): Promise<string[]>;
  /** Removes an object; one that is not there is fine. */
  remove(key: string): Promise<void>;
}

/** Larger objects are sent in parts of this size. */
const PART_BYTES = 8 << 20;
/** Parts on their way at once, and how often each is tried. */
const PARTS = 4;
const RETRIES = 3;

const REASONS: Readonly<Record<string, readonly [FileReason, string]>> = {
  NoSuchBucket: ["missing", "there is no such bucket"],
  AccessDenied: ["denied", "access denied"],
  InvalidAccessKeyId: ["denied", "the access key is not known"],
  SignatureDoesNotMatch: ["denied", "the secret key does not fit"],
  ConnectionRefused: ["other", "nobody answers at the endpoint"],
  ERR_S3_MISSING_CREDENTIALS: [
    "denied",
    "credentials are missing: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL for a store that is not Amazon's",
  ],
};

/** @throws FileError where the platform has no client. */
export function openBucket(name: string): Bucket {
  const where = (key: string) => `s3://${name}/${key}`;
  if (!globalThis.Bun?.S3Client) {
    throw new FileError(
      "other",
      where(""),
      `cannot open s3://${name}: only Bun has a client for such stores, use a folder`,
    );
  }
  const client = new Bun.S3Client({ bucket: name, ...credentials() });
  return {
    get: (key) =>
      attempt("read", where(key), () =>
        client
          .file(key)
          .bytes()
          .catch((error) => {
            if (error?.code === "NoSuchKey") return null;
            throw error;
          }),
      ),
    put: (key, chunks) =>
      attempt("write", where(key), async () => {
        const writer = client.file(key).writer({
          partSize: PART_BYTES,
          queueSize: PARTS,
          retry: RETRIES,
          type: "application/octet-stream",
        });
        try {
          for await (const chunk of chunks) {
            writer.write(chunk);
            await writer.flush();
          }
        } catch (error) {
          // Parts that were sent are given up by the store; without an end there is no object.
          await Promise.resolve(writer.end(error as Error)).catch(() => {});
          throw error;
        }
        await writer.end();
      }),
    list: (prefix) =>
      attempt("list", where(prefix), async () => {
        const keys: string[] = [];
        let startAfter: string | undefined;
        for (;;) {
          const page = await client.list({ prefix, ...(startAfter === undefined ? {} : { startAfter }) });
          const found = (page.contents ?? []).map(({ key }) => key);
          keys.push(...found);
          if (!page.isTruncated || found.length === 0) return keys;
          startAfter = found.at(-1)!;
        }
      }),
    remove: (key) => attempt("remove", where(key), () => client.delete(key)),
  };
}

/** Read anew each time: Bun has its own as they were when the process began. */
function credentials(): Record<string, string> {
  const named: Record<string, readonly string[]> = {
    accessKeyId: ["S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"],
    secretAccessKey: ["S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"],
    sessionToken: ["S3_SESSION_TOKEN", "AWS_SESSION_TOKEN"],
    region: ["S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"],
    endpoint: ["S3_ENDPOINT", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
  };
  return Object.fromEntries(
    Object.entries(named).flatMap(([option, names]) => {
      const value = names.map(environment).find(Boolean);
      return value === undefined ? [] : [[option, value]];
    }),
  );
}

async function attempt<T>(verb: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { code, message, name } = error as { code?: string; message?: string; name?: string };
    if (name !== "S3Error") throw error;
    const [reason, words] =
      REASONS[code ?? ""] ?? (["other", [code, message].filter(Boolean).join(": ")] as const);
    throw new FileError(reason, path, `cannot ${verb} ${path}: ${words}`);
  }
}
