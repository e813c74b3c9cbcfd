import { expect, test } from "bun:test";
import { MemoryNetwork, memory } from "../../runtime/transports/memory.ts";
import { tcp } from "../../runtime/transports/tcp.ts";
import { transportContract } from "./transport.contract.ts";

const network = new MemoryNetwork();
transportContract({
  name: "memory",
  make: () => memory(network),
  anyAddress: "memory://",
  deadAddress: "memory://nobody",
});

transportContract({
  name: "TCP",
  make: () => tcp(),
  anyAddress: "tcp://127.0.0.1:0",
  deadAddress: "tcp://127.0.0.1:1",
  malformed: "tcp://127.0.0.1",
});

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
