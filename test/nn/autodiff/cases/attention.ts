/** Random instances of attention and rotary embedding; see ../rule-cases.ts. */

import { type Attribute, float, MICROSOFT } from "../../../../nn/onnx/graph.ts";
import { Tensor } from "../../../../protocols/tensor.ts";
import type { Chance } from "../../engine/operator-cases.ts";
import type { RuleCase } from "../rule-cases.ts";

type Maker = (chance: Chance) => RuleCase;

const attention: Maker = (c) => {
  const [batch, groups, shared, rows] = [c.int(1, 2), c.int(1, 2), c.int(1, 2), c.int(1, 3)];
  const [columns, size, width] = [c.int(1, 4), c.int(1, 3), c.int(1, 3)];
  const heads = groups * shared;
  const apart = c.int(0, 1) === 1;
  const tensor = (count: number, length: number, of: number) =>
    c.f32(apart ? [batch, count, length, of] : [batch, length, count * of]);
  const inputs: Tensor[] = [
    tensor(heads, rows, size),
    tensor(groups, columns, size),
    tensor(groups, columns, width),
  ];
  const mask = c.int(0, 2);
  if (mask === 1) inputs.push(c.f32(c.pick([rows, columns], [batch, 1, rows, columns])));
  if (mask === 2) inputs.push(c.bool(c.pick([rows, columns], [batch, heads, rows, columns])));
  const attributes: Record<string, Attribute> = { is_causal: c.int(0, 1) };
  if (!apart) Object.assign(attributes, { q_num_heads: heads, kv_num_heads: groups });
  if (c.int(0, 1)) attributes.scale = float(0.75);
  if (c.int(0, 2) === 0) attributes.softcap = float(1.5);
  return { inputs, attributes };
};

const rotary: Maker = (c) => {
  const [batch, heads, length, size] = [c.int(1, 2), c.int(1, 2), c.int(1, 3), 2 * c.int(1, 4)];
  const apart = c.int(0, 1) === 1;
  const microsoft = c.int(0, 2) === 0;
  const turned = c.pick(size, 2);
  const x = c.f32(apart ? [batch, heads, length, size] : [batch, length, heads * size]);
  const attributes: Record<string, Attribute> = {
    interleaved: c.int(0, 1),
    num_heads: apart ? 0 : heads,
    rotary_embedding_dim: turned === size ? 0 : turned,
  };
  const positions = 5;
  const angles = () => c.f32([positions, turned / 2]);
  const at = c.i64([batch, length], 0, positions - 1);
  if (microsoft) {
    const given = c.pick(at, Tensor.i64([1], [positions - length]));
    return { inputs: [x, given, angles(), angles()], attributes, domain: MICROSOFT };
  }
  if (c.int(0, 1)) return { inputs: [x, angles(), angles(), at], attributes };
  const placed = () => c.f32([batch, length, turned / 2]);
  return { inputs: [x, placed(), placed()], attributes };
};

export const ATTENTION_RULE_CASES: Readonly<Record<string, Maker>> = {
  Attention: attention,
  RotaryEmbedding: rotary,
};
