// A graph in, its gradient as another graph out: y = sum(tanh(x·W)), dy/dW.

import { createEngine, differentiate, GraphBuilder } from "../nn/index.ts";

const b = new GraphBuilder("example");
b.input("x", "f32", [2, 3]);
b.input("W", "f32", [3, 4]);
const hidden = b.op("Tanh", [b.op("MatMul", ["x", "W"])]);
b.op("ReduceSum", [hidden], { keepdims: 0 }, "y");
b.output("y");

// The joint graph: forward nodes, then the backward pass, seeded with dy/dy = 1.
const joint = differentiate(b.build(), { y: 1 }, ["W"]);
const gradient = joint.gradients.get("W")!;
joint.builder.output("y");
joint.builder.output(gradient);
const graph = joint.builder.build();
console.log(graph.nodes.map(({ op }) => op).join(" "));

const engine = await createEngine();
const run = await engine.compile(graph);
const feeds = { x: engine.allocate("f32", [2, 3]), W: engine.allocate("f32", [3, 4]) };
const fetches = { y: engine.allocate("f32", []), [gradient]: engine.allocate("f32", [3, 4]) };
feeds.x.tensor.f32().fill(0.5);
feeds.W.tensor.f32().fill(0.1);
await run.bind(feeds, fetches).run();
console.log(fetches.y.tensor.f32()[0]?.toFixed(4)); // 8·tanh(0.15) = 1.1911
console.log(fetches[gradient]?.tensor.f32()[0]?.toFixed(4)); // 2·0.5·(1 − tanh²(0.15)) = 0.9778
await engine.close();
