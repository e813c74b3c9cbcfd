/**
 * A TLS 1.3 server that shows a certificate and signs with a key of its own choice, as no library would: just enough
 * of RFC 8446 to bring a client to the point where it has to look at the signature.
 */

import {
  createCipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
} from "node:crypto";
import { createServer, type Server } from "node:net";

const X25519 = 0x001d;
const AES_128_GCM_SHA256 = 0x1301;
const NOTHING = Buffer.alloc(0);

const sha256 = (...parts: Buffer[]) => createHash("sha256").update(Buffer.concat(parts)).digest();
const hmac = (key: Buffer, ...parts: Buffer[]) =>
  createHmac("sha256", key).update(Buffer.concat(parts)).digest();
/** A number of so many bytes. */
const number = (value: number, bytes: number) => {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntBE(value, 0, bytes);
  return buffer;
};
/** Parts behind their length of so many bytes. */
const vector = (lengthBytes: number, ...parts: Buffer[]) => {
  const body = Buffer.concat(parts);
  return Buffer.concat([number(body.byteLength, lengthBytes), body]);
};
const expand = (secret: Buffer, label: string, context: Buffer, length: number) =>
  hmac(
    secret,
    Buffer.concat([number(length, 2), vector(1, Buffer.from(`tls13 ${label}`)), vector(1, context)]),
    Buffer.of(1),
  ).subarray(0, length);
const message = (type: number, ...body: Buffer[]) => Buffer.concat([Buffer.of(type), vector(3, ...body)]);

/** The client's session id and its X25519 key. */
function readHello(hello: Buffer): { session: Buffer; share: Buffer } {
  let at = 4 + 2 + 32;
  const session = hello.subarray(at + 1, at + 1 + hello[at]!);
  at += 1 + hello[at]!;
  at += 2 + hello.readUInt16BE(at);
  at += 1 + hello[at]!;
  for (at += 2; at < hello.byteLength; at += 4 + hello.readUInt16BE(at + 2)) {
    if (hello.readUInt16BE(at) !== 0x33) continue;
    const end = at + 4 + hello.readUInt16BE(at + 2);
    for (let entry = at + 6; entry < end; entry += 4 + hello.readUInt16BE(entry + 2)) {
      if (hello.readUInt16BE(entry) === X25519)
        return { session, share: hello.subarray(entry + 4, entry + 36) };
    }
  }
  throw new Error("the client offers no X25519 key");
}

/** The server's whole first flight. */
function answer(hello: Buffer, certificate: string, key: string): Buffer {
  const { session, share } = readHello(hello);
  const { publicKey, privateKey } = generateKeyPairSync("x25519");
  const theirs = createPublicKey({
    key: Buffer.concat([Buffer.from("302a300506032b656e032100", "hex"), share]),
    format: "der",
    type: "spki",
  });
  const mine = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
  const serverHello = message(
    2,
    ...[number(0x303, 2), randomBytes(32), vector(1, session), number(AES_128_GCM_SHA256, 2), Buffer.of(0)],
    vector(
      2,
      ...[number(0x2b, 2), vector(2, number(0x304, 2))],
      ...[number(0x33, 2), vector(2, number(X25519, 2), vector(2, mine))],
    ),
  );
  const early = hmac(Buffer.alloc(32), Buffer.alloc(32));
  const handshake = hmac(
    expand(early, "derived", sha256(), 32),
    diffieHellman({ privateKey, publicKey: theirs }),
  );
  const traffic = expand(handshake, "s hs traffic", sha256(hello, serverHello), 32);

  const extensions = message(8, vector(2));
  const shown = message(11, vector(1), vector(3, vector(3, new X509Certificate(certificate).raw), vector(2)));
  const said = [hello, serverHello, extensions, shown];
  const words = Buffer.from("TLS 1.3, server CertificateVerify\0");
  const signed = Buffer.concat([Buffer.alloc(64, 0x20), words, sha256(...said)]);
  const signature = sign("sha256", signed, createPrivateKey(key));
  const verify = message(15, number(0x403, 2), vector(2, signature));
  const finished = message(20, hmac(expand(traffic, "finished", NOTHING, 32), sha256(...said, verify)));

  const inner = Buffer.concat([extensions, shown, verify, finished, Buffer.of(22)]);
  const head = Buffer.concat([Buffer.of(23, 3, 3), number(inner.byteLength + 16, 2)]);
  const [secret, iv] = [expand(traffic, "key", NOTHING, 16), expand(traffic, "iv", NOTHING, 12)];
  const cipher = createCipheriv("aes-128-gcm", secret, iv);
  cipher.setAAD(head);
  const sealed = [cipher.update(inner), cipher.final(), cipher.getAuthTag()];
  return Buffer.concat([Buffer.of(22, 3, 3), vector(2, serverHello), head, ...sealed]);
}

/** Shows `certificate` (PEM) and signs with `key` (PEM). Close it. */
export function impostor(certificate: string, key: string): Server {
  return createServer((socket) => {
    let received = NOTHING;
    socket.on("error", () => {}); // the client has hung up
    socket.on("data", function record(bytes: Buffer) {
      received = Buffer.concat([received, bytes]);
      if (received.byteLength < 5 || received.byteLength < 5 + received.readUInt16BE(3)) return;
      socket.off("data", record);
      socket.resume();
      socket.write(answer(received.subarray(5, 5 + received.readUInt16BE(3)), certificate, key));
    });
  });
}
