/**
 * The rival: PyTorch on the processor, found where it is installed, as it comes and with its products unlocked.
 *
 * On processors that Intel did not make, the MKL inside PyTorch takes a slow path. A two-line library, preloaded,
 * answers MKL's question as an Intel processor would; that is what PyTorch can really do, so both are measured.
 */

import { existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import type { GptConfig } from "../nn/models/gpt.ts";
import { DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import { ChildError, LineChild, run } from "./child.ts";

const RIVAL = join(import.meta.dir, "rivals", "pytorch");

export interface PyTorch {
  readonly python: string;
  readonly version: string;
  readonly unlock: Unlock;
}

export interface Unlock {
  /** Preloaded to unlock MKL; null where that changes nothing or cannot be had. */
  readonly library: string | null;
  readonly why: string;
  /** Whether stock PyTorch is on the fast path as it is. */
  readonly sameAsStock: boolean;
}

/** What was looked for and is not there, with the reason. */
export interface Absent {
  readonly absent: string;
}

/** @param folder where the unlocking library may be built. */
export async function findPyTorch(folder: string): Promise<PyTorch | Absent> {
  const python = process.env.TROUPE_PYTHON || "python3";
  const question =
    "import json, numpy, torch; print(json.dumps([torch.__version__, torch.backends.mkl.is_available()]))";
  try {
    const [answer] = await run({ command: [python, "-c", question] });
    const [version, mkl] = JSON.parse(answer!) as [string, boolean];
    return { python, version, unlock: await unlock(folder, mkl) };
  } catch (error) {
    if (!(error instanceof ChildError)) throw error;
    const named = process.env.TROUPE_PYTHON ? "TROUPE_PYTHON" : "python3";
    return {
      absent: `${named} has no PyTorch: set TROUPE_PYTHON to a Python with bench/rivals/pytorch/requirements.txt`,
    };
  }
}

async function unlock(folder: string, mkl: boolean): Promise<Unlock> {
  const none = (why: string, sameAsStock: boolean): Unlock => ({ library: null, why, sameAsStock });
  if (!mkl) return none("this PyTorch has no MKL, so nothing is locked", true);
  if (isIntel()) return none("on an Intel processor stock and unlocked are the same code path", true);
  if (process.platform !== "linux") return none("preloading a library works on Linux only", false);
  const library = join(folder, "unlock.so");
  const source = join(RIVAL, "unlock-mkl", "unlock.c");
  try {
    await run({ command: ["cc", "-shared", "-fPIC", "-O1", "-o", library, source] });
  } catch (error) {
    if (!(error instanceof ChildError)) throw error;
    return none("there is no C compiler (cc) to build bench/rivals/pytorch/unlock-mkl with", false);
  }
  return { library, why: "preloaded bench/rivals/pytorch/unlock-mkl", sameAsStock: false };
}

function isIntel(): boolean {
  const info = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
  return info.includes("GenuineIntel") || (cpus()[0]?.model.includes("Intel") ?? false);
}

export interface RivalOptions {
  readonly unlocked: boolean;
  readonly compile: boolean;
}

export interface RivalRun {
  readonly model: GptConfig;
  readonly batch: number;
  readonly microBatches: number;
  readonly data: string;
}

/** Arguments of gpt.py for a model and its batch. */
export function gptArguments({ model, batch, microBatches, data }: RivalRun): string[] {
  const { layers, width, heads, context } = model;
  const sizes = {
    layers,
    width,
    heads,
    context,
    batch,
    "micro-batches": microBatches,
    threads: 1,
    data,
    lr: DEFAULT_ADAMW.learningRate,
  };
  return Object.entries(sizes).flatMap(([name, value]) => [`--${name}`, `${value}`]);
}

/** A Python that trains so many steps when it is told to, after its warm-up; one thread. */
export function startRounds(torch: PyTorch, rival: RivalRun, options: RivalOptions): Promise<LineChild> {
  const { command, environment } = script(torch, "gpt.py", options.unlocked);
  const args = ["--rounds", ...gptArguments(rival), ...(options.compile ? ["--compile"] : [])];
  return LineChild.start({ command: [...command, ...args], environment });
}

/** A Python that trains one of nets.py's networks so many steps when it is told to; one thread. */
export function startNet(torch: PyTorch, args: readonly string[], unlocked: boolean): Promise<LineChild> {
  const { command, environment } = script(torch, "nets.py", unlocked);
  return LineChild.start({ command: [...command, ...args], environment });
}

/** A Python that runs convolutions when it is told to; one thread. */
export function startConvolutions(torch: PyTorch, unlocked: boolean): Promise<LineChild> {
  return LineChild.start(script(torch, "convolution.py", unlocked));
}

/** A Python that multiplies matrices when it is told to; one thread. */
export function startProducts(torch: PyTorch, unlocked: boolean): Promise<LineChild> {
  return LineChild.start(script(torch, "product.py", unlocked));
}

/** One rank of a pipeline whose kernels sleep; see pipeline.py. */
export function startPipelineRank(torch: PyTorch, options: string): Promise<LineChild> {
  const { command, environment } = script(torch, "pipeline.py", false);
  return LineChild.start({ command: [...command, options], environment });
}

/** Trains to the end; resolves with what gpt.py found. */
export async function validate(torch: PyTorch, rival: RivalRun, steps: number, seed: number) {
  const unlocked = torch.unlock.library !== null;
  const { command, environment } = script(torch, "gpt.py", unlocked);
  const args = ["--val", "--steps", `${steps}`, "--seed", `${seed}`, ...gptArguments(rival)];
  const lines = await run({ command: [...command, ...args], environment });
  return JSON.parse(lines.at(-1)!) as { steps: number; loss: number; validationLoss: number };
}

function script(torch: PyTorch, name: string, unlocked: boolean) {
  const preload: Record<string, string> = unlocked ? { LD_PRELOAD: torch.unlock.library! } : {};
  return { command: [torch.python, join(RIVAL, name)], environment: preload };
}
