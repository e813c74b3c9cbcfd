/** Activations: functions of one element with parameters that are attributes. */

import { floatAttribute } from "../../onnx/shapes.ts";
import { broadcastAll, compute, expand } from "./ndarray.ts";
import type { Call, Operator, Operators } from "./operator.ts";
import { erf } from "./special.ts";

/** A float attribute of the node at hand. */
type Parameter = (name: string, fallback: number) => number;

/** An activation; its function is made once per call, from the node's attributes. */
const activation =
  (make: (parameter: Parameter) => (x: number) => number): Operator =>
  (call) => {
    const { dtype, shape, data } = call.input(0);
    const f = make((name, fallback) => floatAttribute(call.node, name, fallback));
    return [compute(dtype, shape, (i) => f(data[i]!))];
  };

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
/** log(1 + eˣ), without an exponential that overflows. */
const softplus = (x: number) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const clip01 = (x: number) => Math.min(Math.max(x, 0), 1);

/** Hendrycks and Gimpel, arXiv:1606.08415: exact, or its tanh approximation. */
const exactGelu = (x: number) => x * 0.5 * (1 + erf(x / Math.SQRT2));
const tanhGelu = (x: number) => x * 0.5 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

const gelu: Operator = (call) =>
  activation(() => (call.node.attributes.approximate === "tanh" ? tanhGelu : exactGelu))(call);

/** A function of x plus a bias that broadcasts to it and may be left out. */
const biased =
  (f: (x: number) => number): Operator =>
  (call) => {
    const { dtype, shape, data } = call.input(0);
    const bias = call.inputs[1] && expand(call.inputs[1], shape).data;
    return [compute(dtype, shape, (i) => f(data[i]! + (bias?.[i] ?? 0)))];
  };

const prelu = (call: Call) => {
  const [x, slope] = broadcastAll([call.input(0), call.input(1)], call.node);
  return [compute(x!.dtype, x!.shape, (i) => x!.data[i]! * (x!.data[i]! < 0 ? slope!.data[i]! : 1))];
};

export const activations: Operators = {
  Tanh: activation(() => Math.tanh),
  Sigmoid: activation(() => sigmoid),
  Softplus: activation(() => softplus),
  Softsign: activation(() => (x) => x / (1 + Math.abs(x))),
  Relu: activation(() => (x) => Math.max(0, x)),
  LeakyRelu: activation((p) => {
    const alpha = p("alpha", 0.01);
    return (x) => (x < 0 ? alpha * x : x);
  }),
  ThresholdedRelu: activation((p) => {
    const alpha = p("alpha", 1);
    return (x) => (x > alpha ? x : 0);
  }),
  PRelu: prelu,
  Elu: activation((p) => {
    const alpha = p("alpha", 1);
    return (x) => (x < 0 ? alpha * Math.expm1(x) : x);
  }),
  Selu: activation((p) => {
    const [alpha, gamma] = [p("alpha", 1.6732632), p("gamma", 1.050701)];
    return (x) => gamma * (x <= 0 ? alpha * Math.expm1(x) : x);
  }),
  Celu: activation((p) => {
    const alpha = p("alpha", 1);
    return (x) => Math.max(0, x) + Math.min(0, alpha * Math.expm1(x / alpha));
  }),
  HardSigmoid: activation((p) => {
    const [alpha, beta] = [p("alpha", 0.2), p("beta", 0.5)];
    return (x) => clip01(alpha * x + beta);
  }),
  HardSwish: activation(() => (x) => x * clip01(x / 6 + 0.5)),
  Mish: activation(() => (x) => x * Math.tanh(softplus(x))),
  Gelu: gelu,
};

/** ONNX Runtime's own: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
export const fusedActivations: Operators = {
  Gelu: activation(() => exactGelu),
  BiasGelu: biased(exactGelu),
  FastGelu: biased(tanhGelu),
  QuickGelu: activation((p) => {
    const alpha = p("alpha", 1.702);
    return (x) => x * sigmoid(alpha * x);
  }),
};
