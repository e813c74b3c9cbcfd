/**
 * A process of its own for shm.test.ts: `process.ts listen <folder>` prints its address and echoes what it gets,
 * `process.ts connect <folder> <address>` connects over and over, leaving each connection after its first byte.
 */

import { shm } from "../../../../runtime/transports/shm/shm.ts";

const [what, folder, address] = process.argv.slice(2);
const transport = shm({ folder: folder! });
if (what === "listen") {
  const listener = await transport.listen("shm://echo", (pipe) => ({
    onData: (bytes) => void pipe.write(bytes),
    onDrain: () => undefined,
    onClose: () => undefined,
  }));
  console.log(listener.address);
} else {
  console.log("ready");
  for (;;) {
    const heard = Promise.withResolvers<void>();
    const pipe = await transport.connect(address!, () => ({
      onData: () => heard.resolve(),
      onDrain: () => undefined,
      onClose: () => heard.resolve(),
    }));
    pipe.write(Uint8Array.of(1));
    await heard.promise;
    pipe.close();
  }
}
