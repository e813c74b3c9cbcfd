/**
 * `troupe token`: makes a join token. The coordinator's certificate and key are made with the first one and kept;
 * every call makes a new secret, and nodes that were started with another do not let its holders in.
 */

import { createToken, shortFingerprint, systemRandom } from "../runtime/index.ts";
import { configFolder } from "../runtime/platform/private.ts";
import { standardError, standardOutput } from "../runtime/platform/process.ts";
import { keepIdentity } from "../runtime/security/identity.ts";
import type { Command } from "./command.ts";
import { type OptionTable, parseOptions } from "./options.ts";
import { TOKEN_VARIABLE } from "./security.ts";

const OPTIONS: OptionTable = {
  identity: {
    value: "folder",
    help: "where this machine's certificate and key are kept (default: the user's settings)",
  },
  json: { help: "one JSON object on standard output" },
};

export const token: Command = {
  name: "token",
  summary: "make a join token for this machine's cluster",
  options: OPTIONS,
  notes: [
    "Run it once, on the machine that will start the training, and give the token to every node and to train there:",
    `  export ${TOKEN_VARIABLE}=$(npx bun run troupe token)`,
    "  troupe node --listen tcp://0.0.0.0:4001",
    "Whoever has the token can join. The certificate is kept; every call makes a new secret.",
  ],
  run,
};

async function run(args: readonly string[]): Promise<number> {
  const options = parseOptions("token", OPTIONS, args);
  const identity = options.text("identity") ?? configFolder();
  const { fingerprint } = await keepIdentity(identity);
  const made = createToken(systemRandom, fingerprint);
  if (options.has("json")) {
    standardOutput.write(`${JSON.stringify({ event: "token", token: made, fingerprint, identity })}\n`);
    return 0;
  }
  standardOutput.write(`${made}\n`);
  if (standardOutput.terminal) {
    standardError.write(
      `It names this machine as the coordinator, by its certificate ${shortFingerprint(fingerprint)}… in ${identity}.\n`,
    );
  }
  return 0;
}
