/** Which outcomes of TLS's handshake are a channel, and which are refused, whatever the library's words for them. */

import { expect, test } from "bun:test";
import { channelOf, type TlsOutcome } from "../../../../runtime/transports/tcp/tls.ts";

const [near, far] = ["aa".repeat(32), "bb".repeat(32)];
const fine: TlsOutcome = {
  ...{ peer: "tcp://127.0.0.1:1", agreed: true, version: "TLSv1.3", local: near, remote: far },
  ...{ error: { code: "DEPTH_ZERO_SELF_SIGNED_CERT", message: "self signed" }, expected: undefined },
};

test("a certificate that nobody vouches for is fine, in any spelling of its fingerprint", () => {
  expect(channelOf(fine)).toEqual({ local: near, remote: far });
  const spelled = far.toUpperCase().match(/../g)!.join(":");
  expect(channelOf({ ...fine, remote: spelled, error: null })).toEqual({ local: near, remote: far });
});

test.each<[string, Partial<TlsOutcome>, string]>([
  [
    "a handshake that failed, even if only a missing voucher is named",
    { agreed: false },
    "WRONG_CERTIFICATE",
  ],
  ["a handshake that failed without a word", { agreed: false, error: null }, "WRONG_CERTIFICATE"],
  ["a bad signature", { error: { code: "EPROTO", message: "a:b:BAD_SIGNATURE" } }, "WRONG_CERTIFICATE"],
  ["an older version", { version: "TLSv1.2" }, "TLS_MISMATCH"],
  ["no certificate", { remote: undefined }, "WRONG_CERTIFICATE"],
  ["another certificate than the expected one", { expected: near }, "WRONG_CERTIFICATE"],
])("%s is refused", (_, outcome, code) => {
  expect(() => channelOf({ ...fine, ...outcome })).toThrow(expect.objectContaining({ code }));
});
