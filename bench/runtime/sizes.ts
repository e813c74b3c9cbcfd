/** How much one round of each case does, the same for every contender. */

/** Messages that are sent before the sender waits for their completion. */
export const BURST = 10_000;
export const BURSTS = 50;
export const ASKS = 20_000;
export const SPAWNS = 20_000;
/** Idle actors of which the memory is counted. */
export const ACTORS = 50_000;

/** Round trips over a link, of a payload of so many bytes. */
export const ROUND_TRIPS = 2_000;
export const PAYLOAD_BYTES = 1024;
/** Small messages over a link before the sender waits for their completion. */
export const SMALL_BURST = 50_000;
export const SMALL_BYTES = 32;
export const TENSOR_BYTES = 64 * 2 ** 20;
export const TENSORS = 4;
/** A tensor that a control message must not wait for. */
export const LARGE_BYTES = 256 * 2 ** 20;
/** A tensor that goes from thread to thread, and how often it goes there and back in a round. */
export const WORKER_BYTES = 4 * 2 ** 20;
export const HOPS = 500;
/** A tensor over a data channel, twenty times slower than TCP, and the messages it is cut into. */
export const CHANNEL_BYTES = 16 * 2 ** 20;
export const CHANNEL_TENSORS = 3;
export const CHANNEL_MESSAGE_BYTES = 64 * 1024;
