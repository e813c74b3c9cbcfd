/** Whatever is wrong with what was typed: one line that says so, an exit code, nothing started, nothing left. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createToken, seededRandom } from "../../runtime/index.ts";
import { idxFile, noise } from "../actors/data/memory.ts";
import type { Performed } from "./many.ts";
import { TINY, troupe } from "./troupe.ts";

let folder: string;
const at = (name: string) => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-usage-"));
  writeFileSync(at("empty.txt"), "");
  writeFileSync(at("short.txt"), "too short");
  writeFileSync(at("text.onnx"), "this is no graph");
  writeFileSync(at("binary.txt"), Uint8Array.of(72, 0, 1, 2));
  writeFileSync(
    at("latin1.txt"),
    Uint8Array.from({ length: 4096 }, () => 0xe4),
  );
  writeFileSync(at("file"), "in the way");
  const [device, links] = [{ class: "raspberry-pi-4", count: 2 }, { default: { mbitPerS: 100 } }];
  writeFileSync(at("pis.json"), JSON.stringify({ devices: [device], links }));
  writeFileSync(at("toaster.json"), JSON.stringify({ devices: [{ class: "toaster" }] }));
  const churn = { rates: { leavesPerHour: 1e9 } };
  writeFileSync(at("restless.json"), JSON.stringify({ devices: [device], links, churn }));
  mkdirSync(at("mnist"));
  writeFileSync(at("mnist/train-images-idx3-ubyte"), idxFile([200, 8, 8], noise(200 * 64, 1)));
  writeFileSync(at("mnist/train-labels-idx1-ubyte"), idxFile([200], new Uint8Array(200)));
  mkdirSync(at("nothing"));
  mkdirSync(at("taken/checkpoint"), { recursive: true });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const TOKEN = createToken(seededRandom(1), "0f".repeat(32));

/** What is typed after `troupe`, the exit code, and what the line must say. `$` stands for the folder. */
const MISTAKES: readonly (readonly [string, number, RegExp])[] = [
  ["trian", 2, /no command "trian"; the nearest is train/],
  ["serve", 2, /no command "serve".* all are train, plan, node, token$/],
  ["train --step 5", 2, /unknown option --step; the nearest is --steps/],
  ["train --steps=5 --layer 2", 2, /unknown option --layer; the nearest is --layers/],
  ["train -n 5", 2, /unknown option -n; the nearest is/],
  ["train words.txt", 2, /"words.txt" is not an option/],
  ["train --steps", 2, /--steps needs a value: --steps <N>/],
  ["train --data --seed 1", 2, /--data needs a value: --data <path>/],
  ["train --recompute=yes", 2, /--recompute takes no value, "yes" was given/],
  ["train --copies -1", 2, /--copies -1: expected a whole number from 0 to 63/],
  ["train --patience 10", 2, /--patience 10: expected a whole number from 100 to 600000/],
  ["train --chaos kill", 2, /--chaos "kill": expected what, which device and when, as in "kill device-2 at/],
  ["train --seed 1 --seed 2", 2, /--seed was given twice, as 1 and as 2/],
  ["train --steps ten", 2, /--steps ten: expected a whole number from 1 up/],
  ["train --steps 0", 2, /--steps 0: expected a whole number from 1 up/],
  ["train --steps 1.5", 2, /--steps 1.5: expected a whole number/],
  ["train --seed -1", 2, /--seed -1: expected a whole number from 0 up/],
  ["train --lr fast", 2, /--lr fast: expected a number from 0 up/],
  ["train --beta1 1.5", 2, /--beta1 1.5: expected a number from 0 to 0\.9/],
  ["train --model resnet20", 2, /--model resnet20 is not available; the nearest name is resnet\d\d, and an/],
  ["train --model $/missing.onnx", 2, /--model \S+missing.onnx: there is no such file/],
  ["train --model $", 2, /--model \S+: the folder has no config.json, it is no Hugging Face model/],
  ["train --model $/text.onnx --data $/empty.txt", 1, /not an ONNX file/],
  ["train --model resnet18", 1, /resnet18: it learns from images: name a file or folder with --data/],
  [
    "train --model resnet18 --data $/short.txt",
    1,
    /short.txt: it holds text .*; what is wanted: images are IDX/,
  ],
  ["train --model resnet18 --layers 3", 1, /resnet18 has no setting "layers"; it has width/],
  [
    "train --model mlp --context 3",
    2,
    /--context is for gpt, Hugging Face folders and .onnx files; --model mlp/,
  ],
  ["train --stash 10", 2, /--stash says what --recompute keeps all the same/],
  ["train --loss mse", 2, /--loss is for .onnx files; --model gpt has no such setting/],
  ["train --optimizer adam", 2, /--optimizer adam is not available; there is adamw, sgd, lion and muon/],
  ["train --momentum 0.5", 2, /--momentum is for sgd, muon; --optimizer adamw has no such setting/],
  ["train --model mlp --hidden 3,x", 2, /--hidden 3,x: expected whole numbers apart by commas/],
  [
    "train --strategy magic",
    2,
    /--strategy magic is not available; there is auto, single, data, tensor, .* and local/,
  ],
  [
    "train --schedule magic",
    2,
    /--schedule magic is not available; there is auto, gpipe, 1f1b, eager-1f1b, interleaved, .*/,
  ],
  ["train --deadline 5", 2, /--deadline is for --objective energy/],
  ["train --local-steps 5", 2, /--local-steps is for --strategy local, it is pipeline/],
  [
    "node --listen tcp://127.0.0.1:0 --class toaster",
    2,
    /--class toaster is not available; there is raspberry/,
  ],
  [
    "plan --cluster $/missing.json --fresh-profile",
    2,
    /--cluster imagines devices and --fresh-profile is for/,
  ],
  ["plan --cluster $/toaster.json", 1, /devices\[0\] is of class "toaster", known are raspberry-pi-4, /],
  ["plan --cluster $/pis.json --strategy data --schedule pipedream", 1, /pipedream updates within a step/],
  ["plan --cluster $/pis.json --strategy tensor --schedule pipedream", 1, /pipedream updates within a step/],
  [
    "plan --cluster $/pis.json --strategy data --micro-batches 1",
    1,
    /deals micro-batches to devices, .* only 1/,
  ],
  ["plan --cluster $/pis.json --objective energy --deadline 0.001", 1, /no plan makes a step in 0.001 ms/],
  [
    "plan --cluster $/pis.json --model resnet18 --data $/mnist --strategy tensor",
    1,
    /tensor cannot divide segment 0/,
  ],
  ["train --objective speed", 2, /--objective speed is not available; there is time and energy/],
  ["train --plan $/missing.json --strategy data", 2, /--plan decides on --strategy: give one of them/],
  [
    "plan --cluster $/missing.json --devices 2",
    2,
    /--cluster imagines devices and --devices is for real ones/,
  ],
  ["plan --cluster $/missing.json", 1, /missing.json/],
  ["plan --plan $/file", 1, /the plan is not JSON/],
  ["train --transport webrtc", 2, /--transport webrtc is not available; there is auto and tcp/],
  ["train --engine cuda", 2, /--engine cuda is not available; there is auto, native/],
  [
    "train --batch 16 --micro-batches 3",
    2,
    /16 does not divide into 3 micro-batches: use a batch of 15 or 18/,
  ],
  ["train --batch 2 --micro-batches 4", 2, /2 does not divide into 4 micro-batches: use a batch of 4$/],
  ["train --width 50 --heads 4", 2, /width of 50 does not divide among 4 heads: use a width of 48 or 52/],
  ["train --layers 1000 --width 65536", 2, /51\.5 T parameters needs 825 TB to train, this machine has/],
  ["train --context 5000", 2, /--context 5000: expected a whole number from 1 to 4096/],
  ["train --layers 1 --devices 6", 2, /6 devices are more than the model's \d segments: use at most \d/],
  ["train --devices 2 --join tcp://127.0.0.1:1", 2, /--devices starts devices here and --join uses running/],
  ["train --join tcp://127.0.0.1:1 --join tcp://127.0.0.1:1", 2, /--join tcp:\S+ was given twice/],
  ["train --engine web --join tcp://127.0.0.1:1", 2, /--engine is for devices started here/],
  ["train --data $/missing.txt", 1, /cannot read \S+missing.txt: it does not exist/],
  ["train --data $/nothing", 1, /cannot read \S+nothing: it is a folder/],
  ["train --data $/empty.txt", 1, /empty.txt is empty/],
  ["train --data $/binary.txt", 1, /binary.txt is not text: byte 1 is zero/],
  ["train --data $/latin1.txt", 1, /latin1.txt is not UTF-8 text/],
  ["train --prompt=", 2, /--prompt is empty: --prompt <text> is expected/],
  ["train --out=", 2, /--out is empty/],
  ["train --data /dev/zero", 1, /cannot read \/dev\/zero: it is not a regular file/],
  ["train --trace /dev/full", 1, /cannot write \/dev\/full: it is not a regular file/],
  ["train --batch 1048576", 2, /a micro-batch of 262144 windows of 64 bytes takes .* use a smaller --batch/],
  ["train --data $/short.txt", 1, /short.txt is too short: it has 9 bytes, a context of 64 needs at least/],
  ["train --out $/file", 1, /cannot \w+[ \w]* \S+file\S*: /],
  ["train --out $/taken", 2, /taken holds a run already: .*--resume \S+taken/],
  ["train --resume $/missing", 1, /missing is not a checkpoint folder: it does not exist/],
  ["train --resume $/nothing", 1, /nothing is neither a run nor a checkpoint/],
  ["train --listen tcp://127.0.0.1:0 --copies 0", 2, /--listen takes devices in .* leave --copies 0 out$/],
  ["train --listen tcp://127.0.0.1:0 --engine web", 2, /--engine is for devices started here/],
  ["train --listen tcp://0.0.0.0:0", 2, /tcp:..0.0.0.0:0 is beyond this machine, which needs a join token/],
  ["node --join 127.0.0.1:4000", 2, /--join 127.0.0.1:4000: expected an address such as tcp:..desk:4000$/],
  ["train --chaos random", 2, /--chaos "random": expected how often, as in "random every 20s seed 7"/],
  ["train --join 127.0.0.1:4001", 2, /--join 127.0.0.1:4001: expected an address such as tcp:\/\//],
  ["train --listen foo", 2, /--listen foo: expected an address such as tcp:\/\/desk:4000$/],
  ["train --journal nats://box", 2, /--journal nats:\/\/box names no place for a run: nats:\/\/<host>/],
  ["train --checkpoint nats://box", 2, /--checkpoint nats:\/\/box names no place for a run: nats:\/\/<host>/],
  ["train --resume nats://box", 2, /--resume nats:\/\/box names no place for a run: nats:\/\/<host>/],
  ["train --chaos ;", 2, /--chaos ";": it names no fault, as "kill device-2 at step 20" does$/],
  ["plan --lr 1", 2, /unknown option --lr/],
  [
    "plan --cluster $/restless.json",
    1,
    /churn.rates: leavesPerHour is 1000000000, at most 3600 is possible: /,
  ],
  ["train --join tcp://127.0.0.1:1", 1, /cannot connect to tcp:\/\/127.0.0.1:1/],
  [
    "train --join tcp://10.1.2.3:4001",
    2,
    /tcp:..10.1.2.3:4001 is beyond this machine, .* --token or TROUPE_TOKEN/,
  ],
  ["train --join tcp://10.1.2.3:4001 --insecure", 2, /tcp:..10.1.2.3:4001 is beyond this machine/],
  [
    "train --join tcp://127.0.0.1:1 --insecure",
    2,
    /--insecure gives up encryption, which only a --token brings/,
  ],
  [
    "train --join tcp://127.0.0.1:1 --token secret",
    2,
    /the join token is not one: .* make one with troupe token/,
  ],
  ["train --join tcp://127.0.0.1:1 --token troupe7_x", 2, /the join token is of version 7/],
  [
    `train --join tcp://127.0.0.1:1 --token ${TOKEN} --identity $`,
    2,
    /names the coordinator 0f0f .* not in \S+: run/,
  ],
  [`train --token ${TOKEN}`, 2, /--token is for devices on other machines: give it with --join/],
  ["node", 2, /--listen is missing: an address such as tcp:\/\//],
  ["node --listen 4001", 2, /--listen 4001: expected an address such as tcp:\/\//],
  ["node --listen tcp://127.0.0.1:123456", 2, /tcp:\/\/127.0.0.1:123456: expected/],
  ["node --listen tcp://0.0.0.0:0", 2, /tcp:..0.0.0.0:0 is beyond this machine, which needs a join token/],
  [
    "node --listen tcp://0.0.0.0:0 --insecure",
    2,
    /tcp:..0.0.0.0:0 is beyond this machine, which needs a join token/,
  ],
  [`node --listen tcp://127.0.0.1:0 --token ${TOKEN.slice(0, -1)}`, 2, /the join token is cut off/],
  [`node --token ${TOKEN} --token ${TOKEN}`, 2, /--token was given twice$/],
  [`node ${TOKEN}`, 2, /a join token is not an option; troupe node takes only options/],
  [
    "node --listen tcp://127.0.0.1:0 --identity $",
    2,
    /--identity is for encrypted connections: give a --token/,
  ],
  ["token --identity $/file", 1, /cannot \w+ \S+file\S*: /],
  ["node --listen tcp://127.0.0.1:0 --engine cuda", 2, /--engine cuda is not available/],
  ["node --listen tcp://127.0.0.1:0 --memory 0", 2, /--memory 0: expected a whole number from 1/],
];

/** What is typed after `troupe` for a mistake, in full. */
function typed(mistake: string): string[] {
  const args = mistake.split(" ").map((word) => word.replace("$", folder));
  const training = args[0] === "train";
  const out = training && !args.includes("--out") ? ["--out", at("out")] : [];
  const data = training && mistake.includes("--join") && !mistake.includes("--data") ? TINY : [];
  return [...args, ...data, ...out];
}

describe("refuses", () => {
  let performed: readonly Performed[];

  beforeAll(async () => {
    const lines = MISTAKES.map(([mistake]) => typed(mistake));
    const child = Bun.spawn([process.execPath, join(import.meta.dir, "many.ts"), JSON.stringify(lines)], {
      ...{ cwd: join(import.meta.dir, "../.."), stdin: "ignore", stdout: "pipe", stderr: "inherit" },
    });
    performed = JSON.parse(await new Response(child.stdout).text());
  });

  test.each(MISTAKES.map((mistake, i) => [...mistake, i] as const))("%s", (_, exitCode, line, i) => {
    const { code, out, err, left } = performed[i]!;
    expect(err).toMatch(/^troupe: [^\n]+\n$/);
    expect(err.slice("troupe: ".length, -1)).toMatch(line);
    expect(err).not.toContain(TOKEN.slice(8, 16));
    expect(out).toBe("");
    expect(code).toBe(exitCode);
    expect(left).toEqual([]);
    expect(existsSync(at("out"))).toBe(false);
  });

  test("as a process, too, with an exit code and nothing left", async () => {
    const { code, out, err, left } = await troupe("train", "--step", "5");
    expect(err).toBe("troupe: unknown option --step; the nearest is --steps\n");
    expect([code, out, left]).toEqual([2, "", []]);
  });
});

test("with --json, the line is an event as well", async () => {
  const { code, err, events } = await troupe("train", "--json", "--steps", "none");
  expect(code).toBe(2);
  expect(events).toEqual([{ event: "error", message: err.slice("troupe: ".length, -1) }]);
});

test("leaves nothing where it was refused", () => {
  expect(readdirSync(folder).sort()).toEqual([
    ...["binary.txt", "empty.txt", "file", "latin1.txt", "mnist", "nothing", "pis.json"],
    ...["restless.json", "short.txt", "taken", "text.onnx", "toaster.json"],
  ]);
});

describe("help", () => {
  test("lists the commands there are", async () => {
    const { code, out } = await troupe("--help");
    expect(code).toBe(0);
    expect(out.match(/^ {2}\w+/gm)?.map((name) => name.trim())).toEqual(["train", "plan", "node", "token"]);
  });

  test.each(["train", "plan", "node", "token"])("tells the options of %s", async (command) => {
    const { code, out, err } = await troupe(command, "--help");
    expect(code).toBe(0);
    expect(err).toBe("");
    expect(out).toMatch(/^ {2}--json /m);
    // What is about training alone decides nothing about a plan.
    const training = ["lr", "checkpoint", "journal", "steps"].map((name) => out.includes(`  --${name} `));
    expect(training).toEqual(Array(4).fill(command === "train"));
  });
});
