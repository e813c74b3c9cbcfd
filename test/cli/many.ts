/**
 * Carries out command lines in one process, one after another, without the half second that a process of its own takes for
 * each: what `perform` prints and returns, and the children that it has left behind. Command lines are the one argument, as
 * JSON; so are the results, on standard output.
 */

import { readFileSync } from "node:fs";
import { perform } from "../../cli/perform.ts";

export interface Performed {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** Pids. Linux tells; elsewhere none are found. */
  readonly left: readonly number[];
}

function children(): number[] {
  if (process.platform !== "linux") return [];
  const told = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim();
  return told === "" ? [] : told.split(" ").map(Number);
}

/** What is written to a stream while `work` goes on. */
function diverted(stream: NodeJS.WriteStream): { text: () => string; restore: () => void } {
  const write = stream.write;
  let text = "";
  stream.write = ((chunk: string | Uint8Array) => {
    text += typeof chunk === "string" ? chunk : new TextDecoder().decode(chunk);
    return true;
  }) as typeof stream.write;
  return {
    text: () => text,
    restore: () => {
      stream.write = write;
    },
  };
}

if (import.meta.main) {
  const performed: Performed[] = [];
  // A command listens until its process ends.
  process.stdout.setMaxListeners(0);
  for (const args of JSON.parse(process.argv[2]!) as string[][]) {
    const [out, err] = [diverted(process.stdout), diverted(process.stderr)];
    const code = await perform(args);
    out.restore();
    err.restore();
    performed.push({ code, out: out.text(), err: err.text(), left: children() });
  }
  process.stdout.write(JSON.stringify(performed), () => process.exit(0));
}
