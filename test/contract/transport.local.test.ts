/** The contract for transports within one machine: between processes, and between threads. */

import { test } from "bun:test";
import { shm, shmUnavailable } from "../../runtime/transports/shm/shm.ts";
import { WorkerNetwork, worker } from "../../runtime/transports/worker/network.ts";
import { transportContract } from "./transport.contract.ts";

const unavailable = shmUnavailable();
if (unavailable === null) {
  transportContract({
    name: "shared memory",
    make: () => shm(),
    anyAddress: "shm://",
    deadAddress: "shm://nobody",
  });
} else {
  test.skip(`the shared memory transport: ${unavailable}`, () => undefined);
}

const network = new WorkerNetwork();
transportContract({
  name: "worker",
  make: () => worker(network),
  anyAddress: "worker://",
  deadAddress: "worker://nobody",
});
