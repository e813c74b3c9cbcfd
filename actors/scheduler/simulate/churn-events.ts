/**
 * Who leaves and who joins, and when: what a cluster file says of it, its rates drawn into times. The time that a device
 * stays, and the time that it is away, are exponential, as of a Poisson process; the same seed gives the same times.
 */

import { seededRandom } from "../../../runtime/random.ts";
import type { ChurnEvent, Cluster } from "../cluster.ts";

const HOUR_MS = 3_600_000;

/**
 * Events up to `untilMs`, by time. Everybody is there at the beginning. An event that the file names counts for the device
 * beside those that are drawn for it; who is away cannot leave, nor join who is there, and such events are left out.
 */
export function churnEvents(
  { devices, churn }: Pick<Cluster, "devices" | "churn">,
  untilMs: number,
): ChurnEvent[] {
  const { rates } = churn;
  const random = seededRandom(rates?.seed ?? 0);
  const byDevice = Map.groupBy(churn.events, ({ device }) => device);
  const events = devices.flatMap(({ id }) => {
    const own: ChurnEvent[] = [];
    const given = byDevice.get(id) ?? [];
    let isThere = true;
    let atMs = Number.NEGATIVE_INFINITY;
    for (;;) {
      const perHour = rates ? (isThere ? rates.leavesPerHour : rates.joinsPerHour) : 0;
      const drawnMs =
        perHour > 0
          ? Math.max(0, atMs) - (Math.log(1 - random.next()) * HOUR_MS) / perHour
          : Number.POSITIVE_INFINITY;
      const what = isThere ? "leave" : "join";
      // What has no memory may be drawn anew after every event.
      const named = given.find((event) => event.atMs > atMs && event.what === what);
      atMs = Math.min(drawnMs, named?.atMs ?? Number.POSITIVE_INFINITY);
      if (atMs > untilMs || atMs === Number.POSITIVE_INFINITY) return own;
      own.push({ atMs, what, device: id });
      isThere = !isThere;
    }
  });
  return events.sort((a, b) => a.atMs - b.atMs);
}
