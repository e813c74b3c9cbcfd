/** A node under Deno and one under Bun, each a process, over TLS. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { Tensor } from "../../protocols/index.ts";
import {
  createCertificate,
  createToken,
  type Down,
  NodeRuntime,
  systemRandom,
  tcp,
} from "../../runtime/index.ts";
import { DENO, denoRun } from "./binary.ts";
import { type Far, Near } from "./far.ts";

test.skipIf(DENO === undefined)(
  "a Deno node joins a Bun cluster: tensors, refs, and its end (skipped where npm has no Deno)",
  async () => {
    const token = createToken(systemRandom);
    const child = Bun.spawn(denoRun(join(import.meta.dir, "far.ts"), token), {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    const node = new NodeRuntime({
      name: "near",
      transports: [tcp({ certificate: await createCertificate() })],
      token,
      log: () => {},
    });
    try {
      const reader = child.stdout.getReader();
      const { value } = await reader.read();
      reader.releaseLock();
      const peer = await node.connect(new TextDecoder().decode(value).trim());
      expect(peer.name).toBe("far");
      const far = await node.spawnOn<Far>(peer.id, "Far", []);
      expect(await far.ask.platform()).toBe("Deno");

      const doubled = await far.ask.double(
        Tensor.f32(
          [2 ** 20],
          Float32Array.from({ length: 2 ** 20 }, (_, i) => i),
        ),
      );
      expect(doubled.f32()[2 ** 20 - 1]).toBe(2 * (2 ** 20 - 1));
      expect(await far.ask.relay(await node.spawn(Near, []), "Bun")).toBe("Bun it is, says the other");

      const down = Promise.withResolvers<Down>();
      node.monitor(far, down.resolve);
      const asked = far.ask.never().catch((error: { code: string }) => error.code);
      child.kill("SIGKILL");
      expect(await asked).toBe("NODE_LOST");
      expect((await down.promise).reason.code).toBe("nodelost");
    } finally {
      await node.close();
      child.kill("SIGKILL");
      await child.exited;
    }
  },
);
