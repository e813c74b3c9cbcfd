// How a model would be trained on devices that are not there: what they are, the plan, and a step of it as predicted.

import {
  chromeTrace,
  gantt,
  imaginedRequest,
  planned,
  planText,
  readCluster,
  readPlan,
  workersOf,
} from "../actors/index.ts";
import { DEFAULT_ADAMW, gptModel } from "../nn/index.ts";

const cluster = readCluster(
  JSON.stringify({
    devices: [
      { class: "jetson-nano", count: 2, name: "nano" },
      { class: "raspberry-pi-4", name: "pi" },
    ],
    links: { default: { mbitPerS: 1000, latencyMs: 0.2 } },
  }),
);

const microBatches = 8;
const model = gptModel({ layers: 4, width: 256, heads: 4, context: 128, vocabulary: 256 }, 4);
const optimizer = { ...DEFAULT_ADAMW, learningRate: 1e-3, warmup: 10, steps: 1000 };
const options = { strategy: "auto", schedule: "auto", microBatches, recompute: false };

// Times from operations and bytes. Of devices that are there, `measuredRequest` asks them instead.
const request = imaginedRequest(cluster, { model, optimizer, options });
const { plan, simulation, stepMs } = planned(request);
const workers = workersOf(plan);
console.log(plan.strategy, workers.map(({ member }) => member.deviceName).join(" "));
for (const { name, used, reason } of plan.devices) console.log(`${name} ${used ? "is used" : reason}`);
console.log(`${stepMs.toFixed(0)} ms and ${plan.predictedJoules!.toFixed(0)} J a step`);

// The timeline of a step: for people, and for https://ui.perfetto.dev.
const names = workers.map(({ member }) => member.deviceName);
console.log(gantt(simulation.spans, names, 60));
console.log(chromeTrace(simulation.spans, names).traceEvents.length > 0);

// A plan is a file, which may be edited; what is wrong with it then is told in one line.
const edited = readPlan(planText(plan));
const alone = planned({ ...request, options: { ...options, strategy: "single" } });
console.log(planned(request, edited).stepMs <= alone.stepMs);
