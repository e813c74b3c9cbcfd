/** A connected pair of pipes that note what happens and when, for tests of transports on a virtual clock. */

import type { VirtualClock } from "../../../runtime/clock.ts";
import type { Pipe, PipeHandlers, Transport } from "../../../runtime/transports/transport.ts";

export class Recorder implements PipeHandlers {
  pipe!: Pipe;
  /** Bytes of each delivery and the time it came. */
  readonly deliveries: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  readonly drains: number[] = [];
  readonly closes: { readonly at: number; readonly error: Error | undefined }[] = [];
  private readonly clock: VirtualClock;

  constructor(clock: VirtualClock) {
    this.clock = clock;
  }

  onData(bytes: Uint8Array): void {
    this.deliveries.push({ at: this.clock.now(), bytes: bytes.slice() });
  }

  onDrain(): void {
    this.drains.push(this.clock.now());
  }

  onClose(error?: Error): void {
    this.closes.push({ at: this.clock.now(), error });
  }

  get received(): number[] {
    return this.deliveries.flatMap(({ bytes }) => [...bytes]);
  }

  /** Bytes of each delivery, and the time. */
  get arrivals(): (readonly [number, number])[] {
    return this.deliveries.map(({ at, bytes }) => [at, bytes.byteLength] as const);
  }

  get receivedBytes(): number {
    return this.deliveries.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  }
}

/** `near` connects through its transport to `far`, which listens with another. */
export async function connected(
  clock: VirtualClock,
  from: Transport,
  to: Transport = from,
): Promise<{ near: Recorder; far: Recorder }> {
  const near = new Recorder(clock);
  const far = new Recorder(clock);
  const listener = await to.listen(`${to.scheme}://`, (pipe) => {
    far.pipe = pipe;
    return far;
  });
  near.pipe = await from.connect(listener.address, () => near);
  await listener.close();
  return { near, far };
}
