import { describe, expect, test } from "bun:test";
import { type LossCurve, lossChart, type Point } from "../../cli/chart.ts";

const falling = (count: number, from: number, to: number): Point[] =>
  Array.from({ length: count }, (_, i) => ({ step: i, loss: to + (from - to) * 0.97 ** i }));

const curve = (train: Point[], validation: Point[] = []): LossCurve => ({
  title: "a run",
  train,
  validation,
});

/** [x, y] of each corner of the n-th drawn line. */
const corners = (svg: string, stroke: string) =>
  [...svg.matchAll(new RegExp(`<path d="([^"]+)" stroke="${stroke}" stroke-width="2"/>`, "g"))].map((found) =>
    found[1]!
      .slice(1)
      .split("L")
      .map((pair) => pair.split(" ").map(Number) as [number, number]),
  )[0]!;

const labels = (svg: string, anchor: string) => {
  const group = svg.split(`<g text-anchor="${anchor}">`)[1]!.split("</g>")[0]!;
  return [...group.matchAll(/">([\d.]+)<\/text>/g)].map((found) => Number(found[1]));
};

/** Well-formed: every tag is closed in order, by a reader that knows nothing of SVG. */
function wellFormed(svg: string): boolean {
  const open: string[] = [];
  for (const [, close, name, empty] of svg.matchAll(/<(\/?)([a-z]+)(?:\s[a-zA-Z-:]+="[^"<]*")*\s*(\/?)>/g)) {
    if (close && open.pop() !== name) return false;
    if (!close && !empty) open.push(name!);
  }
  return open.length === 0 && !/[<>]/.test(svg.replace(/<[^<>]+>/g, ""));
}

describe("lossChart", () => {
  test("is a standalone, well-formed SVG with its title escaped", () => {
    const svg = lossChart({
      ...curve(falling(100, 5.6, 1.5), [{ step: 99, loss: 1.7 }]),
      title: "a < b & c",
    });
    expect(svg).toStartWith('<svg xmlns="http://www.w3.org/2000/svg"');
    expect(wellFormed(svg)).toBe(true);
    expect(svg).toContain("a &lt; b &amp; c");
    expect(svg).toContain("validation 1.700");
    expect(svg).not.toContain("NaN");
  });

  test("draws later steps further right and lower losses further down, within the picture", () => {
    const points = corners(lossChart(curve(falling(50, 5, 4))), "#3b82f6");
    expect(points.length).toBe(50);
    for (let i = 1; i < points.length; i++) {
      expect(points[i]![0]).toBeGreaterThan(points[i - 1]![0]);
      expect(points[i]![1]).toBeGreaterThanOrEqual(points[i - 1]![1]);
    }
    for (const [x, y] of points) expect(x >= 64 && x <= 736 && y >= 64 && y <= 384).toBe(true);
  });

  test("is logarithmic when losses differ by much, with a handful of readable ticks either way", () => {
    const wide = lossChart(curve(falling(300, 5.6, 1.4)));
    const narrow = lossChart(curve(falling(300, 2.1, 1.9)));
    expect(wide).toContain("(log)");
    expect(narrow).not.toContain("(log)");
    for (const svg of [wide, narrow, lossChart(curve(falling(300, 900, 0.01)))]) {
      const ticks = labels(svg, "end");
      expect(ticks.length).toBeGreaterThanOrEqual(3);
      expect(ticks.length).toBeLessThan(18);
      expect(labels(svg, "middle").length).toBeGreaterThanOrEqual(4);
    }
  });

  test("a long run is thinned to what the picture can show, from its first to its last step", () => {
    const svg = lossChart(curve(falling(20_000, 5.6, 1.5)));
    expect(svg.length).toBeLessThan(30_000);
    const points = corners(svg, "#3b82f6");
    expect(points[0]![0]).toBe(64);
    expect(points.at(-1)![0]).toBe(736);
  });

  test("does without points, with a single one, and leaves out what is not a number", () => {
    expect(wellFormed(lossChart(curve([])))).toBe(true);
    const one = lossChart(curve([{ step: 5, loss: 2 }]));
    expect(wellFormed(one) && !one.includes("NaN")).toBe(true);
    const broken = lossChart(curve([...falling(10, 3, 2), { step: 10, loss: Number.NaN }]));
    expect(broken).toBe(lossChart(curve(falling(10, 3, 2))));
  });
});
