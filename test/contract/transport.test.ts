import { expect, test } from "bun:test";
import { systemClock } from "../../runtime/clock.ts";
import { seededRandom } from "../../runtime/random.ts";
import { createCertificate } from "../../runtime/security/certificate.ts";
import { faulty } from "../../runtime/transports/faulty.ts";
import { MemoryNetwork, memory } from "../../runtime/transports/memory.ts";
import { shaped } from "../../runtime/transports/shaped.ts";
import { tcp } from "../../runtime/transports/tcp.ts";
import { type TransportCase, transportContract } from "./transport.contract.ts";

const network = new MemoryNetwork();
transportContract({
  name: "memory",
  make: () => memory(network),
  anyAddress: "memory://",
  deadAddress: "memory://nobody",
});

const certificate = await createCertificate();
const sockets = process.versions.bun ? (["bun", "node"] as const) : (["node"] as const);
for (const platform of sockets) {
  for (const encrypted of [false, true]) {
    transportContract({
      name: `TCP ${encrypted ? "with TLS " : ""}(${platform} sockets)`,
      make: () => tcp({ sockets: platform, ...(encrypted ? { certificate } : {}) }),
      anyAddress: "tcp://127.0.0.1:0",
      deadAddress: "tcp://127.0.0.1:1",
      malformed: "tcp://127.0.0.1",
    });
  }
}

/** Decorators keep the contract of what they wrap: without faults, and with a line too fast to wait for. */
const decorated: readonly Omit<TransportCase, "name">[] = [
  { make: () => memory(network), anyAddress: "memory://", deadAddress: "memory://nobody" },
  { make: () => tcp(), anyAddress: "tcp://127.0.0.1:0", deadAddress: "tcp://127.0.0.1:1" },
];
for (const inner of decorated) {
  const scheme = inner.make().scheme;
  const clock = systemClock;
  transportContract({
    ...{ ...inner, name: `shaped ${scheme}` },
    make: () => shaped(inner.make(), { clock, bytesPerSecond: 2 ** 30, latencyMs: 1 }),
  });
  transportContract({
    ...{ ...inner, name: `faulty ${scheme}` },
    make: () => faulty(inner.make(), { clock, random: seededRandom(1) }),
  });
}

test("plain TCP beyond loopback has to be asked for by name", async () => {
  const refused = tcp().listen("tcp://0.0.0.0:0", () => {
    throw new Error("unreachable");
  });
  await expect(refused).rejects.toMatchObject({
    code: "LISTEN_FAILED",
    message: expect.stringContaining("loopback"),
  });
  const listener = await tcp({ plaintext: "everywhere" }).listen("tcp://0.0.0.0:0", () => {
    throw new Error("unreachable");
  });
  await listener.close();
});
