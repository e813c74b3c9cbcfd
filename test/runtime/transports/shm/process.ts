/**
 * A process of its own for shm.test.ts: `process.ts listen <folder>` prints its address and answers with how much it has got,
 * `process.ts connect <folder> <address>` connects over and over, leaving each connection after its first byte.
 */

import { shm } from "../../../../runtime/transports/shm/shm.ts";

const [what, folder, address] = process.argv.slice(2);
const transport = shm({ folder: folder! });
if (what === "listen") {
  const listener = await transport.listen("shm://counter", (pipe) => {
    const total = new Float64Array(1);
    return {
      onData(bytes) {
        total[0]! += bytes.byteLength;
        pipe.write(new Uint8Array(total.buffer));
      },
      onDrain: () => undefined,
      onClose: () => undefined,
    };
  });
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
