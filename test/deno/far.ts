/** A node under Deno, for cluster.test.ts: listens over TLS, prints its address, lives until its input ends. */

import { Tensor } from "../../protocols/index.ts";
import { Actor, createCertificate, NodeRuntime, type Ref, tcp } from "../../runtime/index.ts";

export class Far extends Actor {
  async platform(): Promise<string> {
    return "Deno" in globalThis ? "Deno" : "not Deno";
  }
  async double(tensor: Tensor): Promise<Tensor> {
    return Tensor.f32(
      tensor.shape,
      tensor.f32().map((value) => 2 * value),
    );
  }
  /** Asks an actor of the other platform. */
  async relay(to: Ref<Near>, text: string): Promise<string> {
    return `${await to.ask.answer(text)}, says the other`;
  }
  async never(): Promise<never> {
    return new Promise(() => {});
  }
}

export class Near extends Actor {
  async answer(text: string): Promise<string> {
    return `${text} it is`;
  }
}

if (import.meta.main) {
  const node = new NodeRuntime({
    name: "far",
    actors: { Far },
    transports: [tcp({ certificate: await createCertificate() })],
    token: process.argv[2]!,
  });
  console.log(await node.listen("tcp://127.0.0.1:0"));
  process.stdin.on("end", () => void node.close());
  process.stdin.resume();
}
