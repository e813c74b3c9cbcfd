/** Received tensors that have been copied: garbage that the JavaScript engine does not know the size of. */

import { collectGarbage } from "../../runtime/platform/garbage.ts";

/** After so many bytes it is cleared away. */
const MOST = 64 * 2 ** 20;

export class Clearing {
  private bytes = 0;

  count(bytes: number): void {
    this.bytes += bytes;
  }

  /** While a kernel runs in the engine's thread, this one has time to clear away. */
  during<T>(kernel: Promise<T>): Promise<T> {
    if (this.bytes >= MOST) {
      this.bytes = 0;
      collectGarbage();
    }
    return kernel;
  }
}
