/** What is found of processes that left something. */

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { leftovers } from "../../../bench/soak/leftovers.ts";

test.skipIf(process.platform !== "linux")(
  "a process, a listening socket and a file are found, and nothing else",
  async () => {
    const temporary = mkdtempSync(join(tmpdir(), "troupe-leftovers-"));
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const child = Bun.spawn(["sleep", "60"], { env: { ...process.env, TROUPE_SOAK: "left" } });
    try {
      const traces = { mark: "TROUPE_SOAK=left", pids: new Set([child.pid]), temporary };
      const address = `tcp://127.0.0.1:${server.port}`;
      const before = await leftovers({ ...traces, mark: "TROUPE_SOAK=other", addresses: new Set() });
      expect(before).toEqual([]);
      writeFileSync(join(temporary, "file"), "");
      expect(await leftovers({ ...traces, addresses: new Set([address]) })).toEqual([
        `process ${child.pid}`,
        `listening socket ${address}`,
        "temporary file file",
      ]);
    } finally {
      child.kill("SIGKILL");
      server.stop(true);
      rmSync(temporary, { recursive: true });
    }
  },
);
