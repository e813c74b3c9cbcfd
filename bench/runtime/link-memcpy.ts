/** What memory itself does: a buffer copied into another, both in use already. */

import { contend, each } from "./contender.ts";
import { TENSOR_BYTES, TENSORS } from "./sizes.ts";

const from = new Uint8Array(TENSOR_BYTES).fill(3);
const to = new Uint8Array(TENSOR_BYTES).fill(1);

await contend({
  tensor: async () => {
    const times: number[] = [];
    for (let i = 0; i < TENSORS; i++) {
      times.push(
        await each(TENSOR_BYTES, async () => {
          to.set(from);
        }),
      );
    }
    return times;
  },
});
