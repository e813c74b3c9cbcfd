/**
 * Both ends of a TLS 1.3 handshake that show a certificate and sign with a key of one's own choice, as no library
 * would: just enough of RFC 8446 to bring the other end to the point where it has to look at the signature.
 */

import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from "node:crypto";
import { connect, createServer, type Server, type Socket } from "node:net";

const X25519 = 0x001d;
const AES_128_GCM_SHA256 = 0x1301;
const ECDSA_P256 = 0x0403;
const HANDSHAKE = 22;
const SEALED = 23;
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
const extension = (type: number, ...body: Buffer[]) => Buffer.concat([number(type, 2), vector(2, ...body)]);
const record = (type: number, body: Buffer) => Buffer.concat([Buffer.of(type, 3, 3), vector(2, body)]);

interface Hello {
  readonly session: Buffer;
  /** The X25519 key in it. */
  readonly share: Buffer;
}

/** Reads a client's or a server's hello. */
function readHello(hello: Buffer): Hello {
  const client = hello[0] === 1;
  let at = 4 + 2 + 32;
  const session = hello.subarray(at + 1, at + 1 + hello[at]!);
  at += 1 + hello[at]!;
  // The client's lists of ciphers and compressions, or the server's choice.
  at += client ? 2 + hello.readUInt16BE(at) : 2;
  at += client ? 1 + hello[at]! : 1;
  for (at += 2; at < hello.byteLength; at += 4 + hello.readUInt16BE(at + 2)) {
    if (hello.readUInt16BE(at) !== 0x33) continue;
    const end = at + 4 + hello.readUInt16BE(at + 2);
    for (let entry = at + (client ? 6 : 4); entry < end; entry += 4 + hello.readUInt16BE(entry + 2)) {
      if (hello.readUInt16BE(entry) === X25519)
        return { session, share: hello.subarray(entry + 4, entry + 36) };
    }
  }
  throw new Error("the other end offers no X25519 key");
}

const publicBytes = (key: KeyObject) => key.export({ type: "spki", format: "der" }).subarray(-32);

function secretOf(privateKey: KeyObject, share: Buffer): Buffer {
  const key = Buffer.concat([Buffer.from("302a300506032b656e032100", "hex"), share]);
  const publicKey = createPublicKey({ key, format: "der", type: "spki" });
  const early = hmac(Buffer.alloc(32), Buffer.alloc(32));
  return hmac(expand(early, "derived", sha256(), 32), diffieHellman({ privateKey, publicKey }));
}

/** One direction of the encrypted part of a handshake. */
class Sealed {
  readonly secret: Buffer;
  private sequence = 0;

  constructor(handshakeSecret: Buffer, who: "c" | "s", ...hellos: Buffer[]) {
    this.secret = expand(handshakeSecret, `${who} hs traffic`, sha256(...hellos), 32);
  }

  finished(...said: Buffer[]): Buffer {
    return message(20, hmac(expand(this.secret, "finished", NOTHING, 32), sha256(...said)));
  }

  seal(body: Buffer): Buffer {
    const inner = Buffer.concat([body, Buffer.of(HANDSHAKE)]);
    const head = Buffer.concat([Buffer.of(SEALED, 3, 3), number(inner.byteLength + 16, 2)]);
    const cipher = createCipheriv("aes-128-gcm", ...this.next());
    cipher.setAAD(head);
    return Buffer.concat([head, cipher.update(inner), cipher.final(), cipher.getAuthTag()]);
  }

  /** The content of a record, without its type. */
  open(sealed: Buffer): Buffer {
    const decipher = createDecipheriv("aes-128-gcm", ...this.next());
    decipher.setAAD(sealed.subarray(0, 5));
    decipher.setAuthTag(sealed.subarray(-16));
    const inner = Buffer.concat([decipher.update(sealed.subarray(5, -16)), decipher.final()]);
    return inner.subarray(
      0,
      inner.findLastIndex((byte) => byte !== 0),
    );
  }

  private next(): [Buffer, Buffer] {
    const iv = Buffer.from(expand(this.secret, "iv", NOTHING, 12));
    iv[11] = iv[11]! ^ this.sequence++;
    return [expand(this.secret, "key", NOTHING, 16), iv];
  }
}

/** The messages in which one shows a certificate and says that one has its key. */
function claim(who: "client" | "server", certificate: string, key: string, context: Buffer, said: Buffer[]) {
  const { raw } = new X509Certificate(certificate);
  const shown = message(11, vector(1, context), vector(3, vector(3, raw), vector(2)));
  const words = Buffer.from(`TLS 1.3, ${who} CertificateVerify\0`);
  const signed = Buffer.concat([Buffer.alloc(64, 0x20), words, sha256(...said, shown)]);
  const verify = message(15, number(ECDSA_P256, 2), vector(2, sign("sha256", signed, createPrivateKey(key))));
  return [shown, verify];
}

/** Calls back with each whole record that comes. */
function onRecord(socket: Socket, callback: (whole: Buffer) => void): void {
  let received = NOTHING;
  socket.on("data", (bytes: Buffer) => {
    received = Buffer.concat([received, bytes]);
    while (received.byteLength >= 5 && received.byteLength >= 5 + received.readUInt16BE(3)) {
      const whole = received.subarray(0, 5 + received.readUInt16BE(3));
      received = received.subarray(whole.byteLength);
      callback(whole);
    }
  });
}

/** A server that shows `certificate` (PEM) and signs with `key` (PEM). Close it. */
export function impostorServer(certificate: string, key: string): Server {
  return createServer((socket) => {
    socket.on("error", () => {}); // the client has hung up
    let answered = false;
    onRecord(socket, (whole) => {
      if (answered) return;
      answered = true;
      const hello = whole.subarray(5);
      const { session, share } = readHello(hello);
      const { publicKey, privateKey } = generateKeyPairSync("x25519");
      const mine = message(
        2,
        ...[
          number(0x303, 2),
          randomBytes(32),
          vector(1, session),
          number(AES_128_GCM_SHA256, 2),
          Buffer.of(0),
        ],
        vector(
          2,
          extension(0x2b, number(0x304, 2)),
          extension(0x33, number(X25519, 2), vector(2, publicBytes(publicKey))),
        ),
      );
      const sealed = new Sealed(secretOf(privateKey, share), "s", hello, mine);
      const said = [hello, mine, message(8, vector(2))];
      said.push(...claim("server", certificate, key, NOTHING, said));
      const flight = [...said.slice(2), sealed.finished(...said)];
      socket.write(Buffer.concat([record(HANDSHAKE, mine), sealed.seal(Buffer.concat(flight))]));
    });
  });
}

/** A client that shows `certificate` (PEM) and signs with `key` (PEM); says nothing after its handshake. */
export function impostorClient(port: number, certificate: string, key: string): Socket {
  const { publicKey, privateKey } = generateKeyPairSync("x25519");
  const hello = message(
    1,
    ...[number(0x303, 2), randomBytes(32), vector(1, randomBytes(32))],
    ...[vector(2, number(AES_128_GCM_SHA256, 2)), vector(1, Buffer.of(0))],
    vector(
      2,
      extension(0x2b, vector(1, number(0x304, 2))),
      extension(0x0a, vector(2, number(X25519, 2))),
      extension(0x0d, vector(2, number(ECDSA_P256, 2))),
      extension(0x33, vector(2, number(X25519, 2), vector(2, publicBytes(publicKey)))),
    ),
  );
  const socket = connect({ port, host: "127.0.0.1" }, () => socket.write(record(HANDSHAKE, hello)));
  socket.on("error", () => {}); // the server has hung up
  let said: Buffer[] = [hello];
  let theirs: Sealed | undefined;
  let mine: Sealed | undefined;
  let flight = NOTHING;
  onRecord(socket, (whole) => {
    if (whole[0] === HANDSHAKE && !theirs) {
      said.push(whole.subarray(5));
      const secret = secretOf(privateKey, readHello(whole.subarray(5)).share);
      theirs = new Sealed(secret, "s", ...said);
      mine = new Sealed(secret, "c", ...said);
    }
    if (whole[0] !== SEALED || !theirs || !mine || said.length === 0) return;
    flight = Buffer.concat([flight, theirs.open(whole)]);
    let context = NOTHING;
    let finished = false;
    for (let at = 0; at + 4 <= flight.byteLength; at += 4 + flight.readUIntBE(at + 1, 3)) {
      if (flight[at] === 13) context = flight.subarray(at + 5, at + 5 + flight[at + 4]!);
      finished = flight[at] === 20;
    }
    if (!finished) return;
    const before = [...said, flight];
    const claims = claim("client", certificate, key, context, before);
    socket.write(mine.seal(Buffer.concat([...claims, mine.finished(...before, ...claims)])));
    said = [];
  });
  return socket;
}
