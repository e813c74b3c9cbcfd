import { expect, test } from "bun:test";
import { Detector } from "../../runtime/detector.ts";

const heartbeat = { intervalMs: 100, patienceMs: 1000 };

/** The verdicts of checks every interval from `from` to `to`. */
function checks(detector: Detector, from: number, to: number): string[] {
  const verdicts: string[] = [];
  for (let now = from; now <= to; now += 100) verdicts.push(detector.check(now));
  return verdicts;
}

test("a silent peer is asked, then given up", () => {
  const detector = new Detector(heartbeat, 0);
  expect(checks(detector, 100, 1000)).toEqual([...Array(9).fill("ask"), "silent"]);
});

test("whoever is heard of is fine", () => {
  const detector = new Detector(heartbeat, 0);
  for (let now = 100; now < 5000; now += 100) {
    detector.heard(now - 10);
    expect(detector.check(now)).toBe("fine");
  }
});

test("a node that stood still itself does not blame its peer", () => {
  const detector = new Detector(heartbeat, 0);
  expect(detector.check(100)).toBe("ask");
  expect(detector.check(5000)).toBe("ask");
  expect(checks(detector, 5100, 6000)).toContain("silent");
});
