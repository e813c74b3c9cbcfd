/** The timeout of an ask: whichever comes first, the answer or the time, settles it. */

import type { Clock } from "./clock.ts";
import { RuntimeError } from "./errors.ts";
import type { Reply } from "./mailbox.ts";

/**
 * `reply` with a limit on how long it may take; without one, or with an infinite one, `reply` itself.
 * @param onTimeout called before the rejection, so that what was lent for the ask can be taken back.
 * @param why what is known then of why there is no answer, or nothing; an actor that waits for itself shows here.
 */
export function within(
  timeoutMs: number | undefined,
  clock: Clock,
  what: () => string,
  reply: Reply,
  onTimeout?: () => void,
  why?: () => string,
): Reply {
  if (timeoutMs === undefined || timeoutMs === Number.POSITIVE_INFINITY) return reply;
  const timer = clock.setTimer(() => {
    onTimeout?.();
    const reason = why?.();
    const message = `${what()} within ${timeoutMs} ms${reason ? `: ${reason}` : ""}`;
    reply.reject(new RuntimeError("ASK_TIMEOUT", message));
  }, timeoutMs);
  return {
    resolve: (value) => {
      clock.clearTimer(timer);
      reply.resolve(value);
    },
    reject: (error) => {
      clock.clearTimer(timer);
      reply.reject(error);
    },
  };
}
