// The same ref works on another node. Here both nodes live in one process and talk over TCP.

import { Tensor } from "../protocols/index.ts";
import { Actor, NodeRuntime, tcp } from "../runtime/index.ts";

class Scaler extends Actor {
  async scale(tensor: Tensor, factor: number): Promise<Tensor> {
    return Tensor.f32(
      tensor.shape,
      tensor.f32().map((value) => value * factor),
    );
  }
}

const token = "a secret that both ends know";
const worker = new NodeRuntime({ name: "board", transports: [tcp()], actors: { Scaler }, token });
const address = await worker.listen("tcp://127.0.0.1:0");

const node = new NodeRuntime({ name: "desk", transports: [tcp()], token });
const peer = await node.connect(address);
const scaler = await node.spawnOn<Scaler>(peer.id, "Scaler", []);

// The tensor's bytes travel raw beside the message, never through msgpack.
const scaled = await scaler.ask.scale(Tensor.f32([3], [1, 2, 3]), 10);
console.log([...scaled.f32()]); // [ 10, 20, 30 ]

// When a node is lost, monitors fire and asks settle with the reason.
const gone = Promise.withResolvers<string>();
node.monitor(scaler, (down) => gone.resolve(down.reason.code));
await worker.close();
console.log(await gone.promise); // why it is gone
await scaler.ask.scale(scaled, 2).catch((error: Error) => console.log(error.name)); // every ask settles

await node.close();
