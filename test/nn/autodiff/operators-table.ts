/**
 * The table of operators in `docs/operators.md`, made from the rules themselves. Run as it is, it writes the file:
 *
 *     npx bun test/nn/autodiff/operators-table.ts
 */

import { join } from "node:path";
import { GRADIENT_RULES } from "../../../nn/autodiff/gradient.ts";
import { FLAT, type GradientRule } from "../../../nn/autodiff/rule.ts";
import { activationRules } from "../../../nn/autodiff/rules/activations.ts";
import { geluRules } from "../../../nn/autodiff/rules/activations-gelu.ts";
import { attentionRules } from "../../../nn/autodiff/rules/attention.ts";
import { convolutionRules } from "../../../nn/autodiff/rules/convolution.ts";
import { dropoutRules } from "../../../nn/autodiff/rules/dropout.ts";
import { einsumRules } from "../../../nn/autodiff/rules/einsum.ts";
import { elementwiseRules } from "../../../nn/autodiff/rules/elementwise.ts";
import { powerRules } from "../../../nn/autodiff/rules/elementwise-power.ts";
import { indexingRules } from "../../../nn/autodiff/rules/indexing.ts";
import { layoutRules } from "../../../nn/autodiff/rules/layout.ts";
import { lossRules } from "../../../nn/autodiff/rules/losses.ts";
import { normalisationRules } from "../../../nn/autodiff/rules/normalisation.ts";
import { channelNormalisationRules } from "../../../nn/autodiff/rules/normalisation-channels.ts";
import { poolingRules } from "../../../nn/autodiff/rules/pooling.ts";
import { productRules } from "../../../nn/autodiff/rules/products.ts";
import { reductionRules } from "../../../nn/autodiff/rules/reductions.ts";
import { softmaxRules } from "../../../nn/autodiff/rules/reductions-softmax.ts";
import { shapeRules } from "../../../nn/autodiff/rules/shape.ts";
import { MICROSOFT, TROUPE } from "../../../nn/onnx/graph.ts";
import { KNOWN_OPERATORS } from "../../../nn/onnx/shapes.ts";
import { Chance } from "../engine/operator-cases.ts";
import { RULE_CASES } from "./rule-cases.ts";

export const TABLE_FILE = join(import.meta.dir, "..", "..", "..", "docs", "operators.md");
export const TABLE_COMMAND = "npx bun test/nn/autodiff/operators-table.ts";

type Rules = Readonly<Record<string, GradientRule>>;

/** What the families are called, and their rules; a rule of no family stands under the last heading. */
const FAMILIES: readonly (readonly [title: string, ...rules: Rules[]])[] = [
  ["Arithmetic", elementwiseRules, powerRules],
  ["Activations", activationRules, geluRules],
  ["Products", productRules, einsumRules],
  ["Convolution and pooling", convolutionRules, poolingRules],
  ["Normalisation", normalisationRules, channelNormalisationRules],
  ["Attention", attentionRules],
  ["Reductions and softmax", reductionRules, softmaxRules],
  ["Losses", lossRules],
  ["Layout", layoutRules, shapeRules],
  ["Indexing", indexingRules],
  ["Randomness", dropoutRules],
];

const DOMAINS: Readonly<Record<string, string>> = {
  [MICROSOFT]: " (ONNX Runtime's)",
  [TROUPE]: " (our own)",
};

function nameOf(op: string): string {
  const domain = RULE_CASES[op]?.(new Chance(1)).domain ?? "";
  return `${op}${DOMAINS[domain] ?? ""}`;
}

/** Those of which there is nothing to say in a line, the others in a table. */
function family(rules: Rules): string[] {
  const sorted = Object.entries(rules)
    .filter(([, rule]) => rule !== FLAT)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const isPlain = ({ spelling, limits }: GradientRule) => !spelling && !limits;
  const plain = sorted.filter(([, rule]) => isPlain(rule)).map(([op]) => nameOf(op));
  const rows = sorted
    .filter(([, rule]) => !isPlain(rule))
    .map(([op, { spelling = "", limits = "" }]) => `| ${nameOf(op)} | ${spelling} | ${limits} |`);
  const table = ["", "| operator | written as | limits |", "| --- | --- | --- |", ...rows];
  return [...(plain.length ? ["", `${plain.join(", ")}.`] : []), ...(rows.length ? table : [])];
}

/** The whole file. */
export function operatorsTable(): string {
  const all: Rules = GRADIENT_RULES;
  const grouped = FAMILIES.map(([title, ...rules]): [string, Rules] => [title, Object.assign({}, ...rules)]);
  const known = new Set(grouped.flatMap(([, rules]) => Object.keys(rules)));
  const others = Object.fromEntries(Object.entries(all).filter(([op]) => !known.has(op)));
  const families: [string, Rules][] = Object.keys(others).length ? [...grouped, ["Others", others]] : grouped;
  const flat = Object.keys(all).filter((op) => all[op] === FLAT);
  const without = KNOWN_OPERATORS.filter((op) => !all[op]);
  const list = (ops: readonly string[]) => `${[...ops].sort().join(", ")}.`;
  return [
    "# Operators",
    "",
    "What can be trained through: the ONNX operators with a gradient, in the form of opset 20, whatever opset a file has.",
    "Shapes broadcast as in numpy, and every rule agrees with PyTorch and with finite differences. *Written as* says how",
    "an operator is spelled in training, where that is faster in ONNX Runtime or forward and backward share something;",
    "*limits* says what has no gradient. What is not here is an error that names the operator, its node and the way from",
    "the parameter through it to the loss.",
    "",
    `This file is made from the rules in \`nn/autodiff/\`: \`${TABLE_COMMAND}\`.`,
    ...families.flatMap(([title, rules]) => ["", `## ${title}`, ...family(rules)]),
    "",
    "## Without a slope",
    "",
    `Constant wherever they are continuous, so nothing flows back: ${list(flat)}`,
    "",
    "## Without a gradient",
    "",
    `Known, and no gradient goes through them: ${list(without)}`,
    "",
  ].join("\n");
}

if (import.meta.main) await Bun.write(TABLE_FILE, operatorsTable());
