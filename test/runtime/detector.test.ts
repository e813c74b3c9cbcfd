import { describe, expect, test } from "bun:test";
import { Detector } from "../../runtime/detector.ts";
import { seededRandom } from "../../runtime/random.ts";

const heartbeat = { intervalMs: 100, patienceMs: 1000 };

/** The verdicts of checks every interval from `from` to `to`. */
function checks(detector: Detector, from: number, to: number): string[] {
  const verdicts: string[] = [];
  for (let now = from; now <= to; now += 100) verdicts.push(detector.check(now));
  return verdicts;
}

/** A detector that has heard of its peer for a minute, with gaps of `gap()`; and the time of the last sign. */
function acquainted(gap: () => number): { detector: Detector; last: number } {
  const detector = new Detector(heartbeat, 0);
  let [last, next, check] = [0, gap(), 100];
  while (check < 60_000) {
    if (next <= check) {
      detector.heard(next);
      last = next;
      next += gap();
    } else {
      expect(detector.check(check)).not.toBe("silent");
      check += 100;
    }
  }
  return { detector, last };
}

/** How long a peer that falls silent is waited for. */
function waitedFor({ detector, last }: { detector: Detector; last: number }): number {
  for (let now = Math.ceil(last / 100) * 100; ; now += detector.dueMs) {
    if (detector.check(now) === "silent") return now - last;
  }
}

describe("a peer that is new", () => {
  test("and silent is asked, then given up when the patience is over and not before", () => {
    const detector = new Detector(heartbeat, 0);
    expect(checks(detector, 100, 1000)).toEqual([...Array(9).fill("ask"), "silent"]);
    expect(detector.phi(1000)).toBe(0);
  });

  test("and heard of is fine", () => {
    const detector = new Detector(heartbeat, 0);
    for (let now = 100; now < 5000; now += 100) {
      detector.heard(now - 10);
      expect(detector.check(now)).toBe("fine");
    }
  });
});

describe("suspicion", () => {
  test("rises with the silence and is that of the normal distribution", () => {
    const { detector, last } = acquainted(() => 100);
    // No deviation was measured, so it is the least one, 10 ms; the mean is 100 ms and the pause 500.
    const at = (deviations: number) => detector.phi(last + 600 + 10 * deviations);
    expect(at(0)).toBeCloseTo(-Math.log10(0.5), 3);
    expect(at(1)).toBeCloseTo(-Math.log10(0.158655), 2);
    expect(at(3)).toBeCloseTo(-Math.log10(0.0013499), 1);
    expect(at(-3)).toBeLessThan(0.001);
    expect(at(1e6)).toBeGreaterThan(8);
  });

  test("gives a regular peer up when the patience is over, an irregular one later, none a quarter later", () => {
    const random = seededRandom(1);
    const waits = {
      regular: waitedFor(acquainted(() => 100)),
      busy: waitedFor(acquainted(() => 60 + 120 * random.next())),
      irregular: waitedFor(acquainted(() => 60 + 300 * random.next())),
      wild: waitedFor(acquainted(() => 50 + 850 * random.next() ** 2)),
    };
    expect(waits.regular).toBe(1000);
    expect(waits.busy).toBeCloseTo(1000, 6);
    expect(waits.irregular).toBeWithin(1001, 1249);
    expect(waits.wild).toBeCloseTo(1250, 6);
  });

  test("learns nothing from a flood: what comes within half an interval is one sign of life", () => {
    const { detector, last } = acquainted(() => 0.5);
    expect(checks(detector, Math.ceil(last / 100) * 100, last + 999)).not.toContain("silent");
  });
});

describe("a node that stood still itself", () => {
  test("does not blame its peer", () => {
    const detector = new Detector(heartbeat, 0);
    expect(detector.check(100)).toBe("ask");
    expect(detector.check(5000)).toBe("ask");
    expect(checks(detector, 5100, 6000)).toContain("silent");
  });

  test("does not take the gap for the peer's", () => {
    const { detector, last } = acquainted(() => 100);
    const woken = last + 900;
    // What has waited in the sockets is read before the timers run.
    detector.heard(woken);
    detector.check(woken + 1);
    expect(waitedFor({ detector, last: woken })).toBeWithin(1000, 1100);
  });

  test("again and again gives up a silent peer all the same", () => {
    const { detector, last } = acquainted(() => 100);
    let now = last;
    // As long again as it should be from check to check.
    while (detector.check(now) !== "silent") now += 2 * detector.dueMs;
    expect(now - last).toBeWithin(1500, 2300);
  });

  test("for less than half an interval gives no time away", () => {
    const { detector, last } = acquainted(() => 100);
    let now = last;
    while (detector.check(now) !== "silent") now += 1.4 * detector.dueMs;
    expect(now - last).toBeWithin(1000, 1100);
  });
});
