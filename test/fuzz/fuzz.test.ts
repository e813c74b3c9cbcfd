/**
 * Links survive a fuzzer, on every transport. `TROUPE_FUZZ_FRAMES=1000000` feeds more, `TROUPE_FUZZ_SEED=7` others.
 */

import { describe, expect, test } from "bun:test";
import { MemoryNetwork, memory } from "../../runtime/transports/memory.ts";
import { shm, shmUnavailable } from "../../runtime/transports/shm/shm.ts";
import { tcp } from "../../runtime/transports/tcp.ts";
import type { Transport } from "../../runtime/transports/transport.ts";
import { ws } from "../../runtime/transports/websocket/websocket.ts";
import { WorkerNetwork, worker } from "../../runtime/transports/worker/network.ts";
import { fuzz } from "./fuzz.ts";

const FRAMES = Number(process.env.TROUPE_FUZZ_FRAMES ?? 6_000);
const SEED = Number(process.env.TROUPE_FUZZ_SEED ?? 1);
const LIMIT_MS = 60_000 + FRAMES;
/** Generated code, caches of shapes and the like. */
const MOST_GROWN_BYTES = 8 * 2 ** 20;

const network = new MemoryNetwork();
const workers = new WorkerNetwork();
const noSharedMemory = shmUnavailable();
if (noSharedMemory) test.skip(`frames over shared memory: ${noSharedMemory}`, () => undefined);
const transports: readonly { readonly address: string; make(): Transport }[] = [
  { address: "memory://", make: () => memory(network) },
  { address: "tcp://127.0.0.1:0", make: () => tcp() },
  { address: "ws://127.0.0.1:0/troupe", make: () => ws() },
  { address: "worker://", make: () => worker(workers) },
  ...(noSharedMemory ? [] : [{ address: "shm://", make: () => shm() }]),
];

for (const { address, make } of transports) {
  describe(`${FRAMES} frames nobody should send, over ${make().scheme}`, () => {
    for (const token of [undefined, "a token of some length"]) {
      const frames = FRAMES / 2;
      test(
        `${token ? "with" : "without"} a join token`,
        async () => {
          const options = { make, address, frames, seed: SEED };
          const report = await fuzz(token ? { ...options, token } : options);
          expect(report.leaks).toEqual([]);
          expect(report.healthyAsks).toBeGreaterThan(0);
          expect(report.grownBytes).toBeLessThan(MOST_GROWN_BYTES);
          // It got everywhere: into framing, decoding, assembly and credit.
          const codes = ["BAD_MAGIC", "MALFORMED_HEADER", "LIMIT_EXCEEDED", "UNEXPECTED_FRAME", "TRUNCATED"];
          expect([...report.closed.keys()]).toEqual(expect.arrayContaining(codes));
          if (process.env.TROUPE_FUZZ_FRAMES) console.log(report);
        },
        LIMIT_MS,
      );
    }
  });
}
