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
  for (let now = Math.ceil(last / 100) * 100; ; now += 100) {
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

  test("gives a regular peer up early, an irregular one later, none after the patience", () => {
    const random = seededRandom(1);
    const regular = waitedFor(acquainted(() => 100));
    const irregular = waitedFor(acquainted(() => 60 + 120 * random.next()));
    const wild = waitedFor(acquainted(() => 50 + 850 * random.next() ** 2));
    expect(regular).toBe(700);
    expect(irregular).toBeGreaterThan(regular);
    expect(irregular).toBeLessThan(1000);
    expect(wild).toBeGreaterThanOrEqual(1000);
    expect(wild).toBeLessThan(1100);
  });

  test("learns nothing from a flood: what comes within half an interval is one sign of life", () => {
    const { detector, last } = acquainted(() => 0.5);
    expect(checks(detector, Math.ceil(last / 100) * 100, last + 500)).not.toContain("silent");
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
    expect(waitedFor({ detector, last: woken })).toBeLessThanOrEqual(800);
  });
});
