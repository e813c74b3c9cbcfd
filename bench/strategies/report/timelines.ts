/** A step as a picture: one row for each worker, its kernels by kind, and thin below them what it sends and adds up. */

import { describe, type Operation } from "../../../actors/scheduler/program.ts";
import type { Measured } from "../result.ts";
import { isKernel } from "../timeline.ts";
import { line, rect, svg, text } from "./svg.ts";

const LABEL = 130;
const WIDTH = 760;
const ROW = 30;
const KERNEL = 16;

const FORWARD = "#4477aa";
const BACKWARD = "#cc6644";
const KIND: Readonly<Record<Operation["op"], string>> = {
  forward: FORWARD,
  backward: BACKWARD,
  "forward-backward": "#aa7799",
  "backward-input": BACKWARD,
  "backward-weight": "#ddaa33",
  update: "#228833",
  step: "#228833",
  reduce: "#66ccee",
  "send-activation": FORWARD,
  "send-gradient": BACKWARD,
  "receive-activation": "none",
  "receive-gradient": "none",
};

export const TIMELINE_LEGEND: readonly (readonly [string, string])[] = [
  [FORWARD, "forward"],
  [BACKWARD, "backward (or its half for the input)"],
  ["#aa7799", "both in one run"],
  ["#ddaa33", "weight gradients apart"],
  ["#228833", "optimiser"],
  ["#66ccee", "gradients added up (below the kernels, beside what is sent)"],
];

export function timelinePicture(name: string, { timeline, workerNames, stepMs }: Measured): string {
  const total = Math.max(stepMs, ...timeline.map(({ endMs }) => endMs));
  const x = (ms: number) => LABEL + (ms / total) * WIDTH;
  const rows = workerNames.flatMap((worker, row) => [
    text(LABEL - 6, row * ROW + 14, worker, "end"),
    line(LABEL, row * ROW + ROW - 3, LABEL + WIDTH, row * ROW + ROW - 3),
  ]);
  const spans = timeline.flatMap(({ worker, operation, startMs, endMs }) => {
    const fill = KIND[operation.op];
    if (fill === "none") return [];
    const kernel = isKernel(operation);
    const top = worker * ROW + (kernel ? 3 : 4 + KERNEL);
    const title = `${describe(operation)}: ${(endMs - startMs).toFixed(1)} ms from ${startMs.toFixed(1)}`;
    return [
      rect(x(startMs), top, Math.max(0.5, x(endMs) - x(startMs) - 0.3), kernel ? KERNEL : 4, fill, title),
    ];
  });
  const height = workerNames.length * ROW;
  const scale = [
    text(LABEL, height + 14, "0"),
    text(LABEL + WIDTH, height + 14, `${total.toFixed(0)} ms`, "end"),
  ];
  return svg(LABEL + WIDTH + 10, height + 20, `${name}: a step`, [...rows, ...spans, ...scale]);
}
