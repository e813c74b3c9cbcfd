/** What a node of the command line has to say, for people: one line each, without the names of classes. */

import type { Log } from "../runtime/index.ts";
import { standardError } from "../runtime/platform/process.ts";

export const lineLog: Log = ({ level, message, error }) => {
  if (level === "info") return;
  // An error without a code is a mistake in the program: its kind says something.
  const known = typeof (error as { code?: unknown } | undefined)?.code === "string";
  const why = error && (known ? error.message : `${error.name}: ${error.message}`);
  const line = why === undefined ? message : `${message}: ${why}`;
  standardError.write(`troupe: ${line.split("\n")[0]}\n`);
};
