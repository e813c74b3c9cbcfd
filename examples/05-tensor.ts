// Tensors travel raw beside a message's header, never through msgpack. One that is told is given away, one that is
// asked with is lent until the answer; what a method returns is the asker's.

import { Tensor } from "../protocols/index.ts";
import { Actor, NodeRuntime, tcp } from "../runtime/index.ts";

class Average extends Actor {
  #sum: Float32Array | undefined;
  #count = 0;

  add(gradient: Tensor): void {
    const values = gradient.f32();
    this.#sum ??= new Float32Array(values.length);
    for (let i = 0; i < values.length; i++) this.#sum[i]! += values[i]!;
    this.#count++;
  }

  async mean(): Promise<Tensor> {
    const mean = this.#sum!.map((value) => value / this.#count);
    return Tensor.f32([mean.length], mean);
  }
}

const board = new NodeRuntime({ name: "board", transports: [tcp()], actors: { Average } });
const desk = new NodeRuntime({ name: "desk", transports: [tcp()] });
const peer = await desk.connect(await board.listen("tcp://127.0.0.1:0"));
const average = await desk.spawnOn<Average>(peer.id, "Average", []);

const SIZE = 4 * 2 ** 20; // 16 MiB each; cut into chunks on the way, so that nothing else has to wait for them
for (const value of [1, 2, 6]) average.tell.add(Tensor.f32([SIZE], new Float32Array(SIZE).fill(value)));

const mean = await average.ask.mean();
console.log(mean.dtype, mean.shape, mean.f32()[SIZE - 1]); // f32 [ 4194304 ] 3

await desk.close();
await board.close();
