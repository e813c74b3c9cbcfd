/** The simulator's own figures. */

import { expect, test } from "bun:test";
import { simulate } from "../../bench/simulate.ts";
import { parseOptions } from "../../cli/options.ts";

test("every case has its events and a rate, every schedule its bubbles", async () => {
  const options = parseOptions("bench simulate", simulate.options, ["--quick"]);
  const noted: string[] = [];
  const { report } = await simulate.run(options, { folder: "", note: (line) => noted.push(line) });
  const { speeds, bubbles } = report.figures as {
    speeds: { events: number; eventsPerSecond: number }[];
    bubbles: { schedules: { name: string; bubbles: number[] }[] };
  };
  expect(noted).toHaveLength(speeds.length);
  for (const { events, eventsPerSecond } of speeds) {
    expect(events).toBeGreaterThan(0);
    expect(eventsPerSecond).toBeGreaterThan(0);
  }
  // (S-1)(F+B+W) of M(F+B+W) more, and (S-1)(F+B-W) with W apart; S = 2 and 4, M = 4S.
  const of = (name: string) => bubbles.schedules.find((schedule) => schedule.name === name)!.bubbles;
  expect(of("1f1b")).toEqual([1 / 9, 3 / 19].map((share) => expect.closeTo(share, 9)));
  expect(of("zero-bubble")).toEqual([1 / 25, 3 / 51].map((share) => expect.closeTo(share, 9)));
  expect(of("interleaved")).toEqual([1 / 17, 3 / 35].map((share) => expect.closeTo(share, 9)));
});
