/**
 * `npx bun run bench <suite>`: measures, prints a report in Markdown (or JSON with --json), and with --record keeps
 * it in bench/RESULTS.md. Every figure there is written by a suite.
 */

import { CommandError, UsageError } from "../cli/command.ts";
import { nearest } from "../cli/nearest.ts";
import { describeOptions, type OptionTable, parseOptions } from "../cli/options.ts";
import { EXIT_CODES, onSignal } from "../runtime/platform/process.ts";
import { churn } from "./churn.ts";
import { memory } from "./memory.ts";
import { nn } from "./nn.ts";
import { pipeline } from "./pipeline.ts";
import { planning } from "./planning.ts";
import { recovery } from "./recovery.ts";
import { record, settingOf, toMarkdown } from "./report.ts";
import { runtime } from "./runtime.ts";
import { simulate } from "./simulate.ts";
import { soak } from "./soak.ts";
import { strategies } from "./strategies.ts";
import { type Suite, temporaryFolder } from "./suite.ts";
import { testbed } from "./testbed.ts";
import { train } from "./train.ts";
import { validation } from "./validation.ts";

const SUITES: readonly Suite[] = [
  train,
  memory,
  validation,
  pipeline,
  testbed,
  planning,
  simulate,
  runtime,
  nn,
  strategies,
  recovery,
  churn,
  soak,
];

const COMMON: OptionTable = {
  json: { help: "one JSON object on standard output" },
  record: { help: "write the report into bench/RESULTS.md" },
};

function help(): string {
  const suites = SUITES.map(({ name, summary, options }) =>
    [`${name}: ${summary}`, ...describeOptions({ ...options, ...COMMON })].join("\n"),
  );
  return `usage: npx bun run bench <suite> [options]\n\n${suites.join("\n\n")}\n`;
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  if (name === undefined || [name, ...args].some((arg) => arg === "--help" || arg === "-h")) {
    process.stdout.write(help());
    return name === undefined ? 2 : 0;
  }
  const suite = SUITES.find((candidate) => candidate.name === name);
  if (!suite) {
    const names = SUITES.map((candidate) => candidate.name);
    throw new UsageError(`there is no suite "${name}"; the nearest is ${nearest(name, names)}`);
  }
  const options = parseOptions(`bench ${name}`, { ...suite.options, ...COMMON }, args);
  const note = (line: string) => process.stderr.write(`${line}\n`);
  // Where a file lies is nobody else's business.
  const said = args.map((arg) => arg.split("/").at(-1)!);
  const command = ["npx bun run bench", name, ...said].join(" ");
  // Before anything runs: the load is the others'.
  const before = await settingOf(command, []);
  const { report, versions, failed = false } = await suite.run(options, { folder: temporaryFolder(), note });
  const setting = { ...before, versions: [before.versions, ...versions].join(", ") };
  const text = toMarkdown(report, setting);
  process.stdout.write(
    options.has("json") ? `${JSON.stringify({ suite: name, ...setting, ...report.figures })}\n` : `${text}\n`,
  );
  if (options.has("record")) record(name, text);
  return failed ? 1 : 0;
}

// Leaving by process.exit ends the children and removes the temporary folder.
onSignal((signal) => process.exit(EXIT_CODES[signal]));
try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  const { code, message, stack } = error as Partial<CommandError>;
  process.stderr.write(
    `bench: ${typeof code === "string" && message ? message.split("\n")[0] : (stack ?? error)}\n`,
  );
  process.exit(error instanceof CommandError ? error.exitCode : 1);
}
