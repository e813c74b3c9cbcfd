/**
 * Child processes of the bench: rivals that answer line by line, so that rounds of theirs and ours can alternate,
 * and commands that run to their end. None outlives this process: inputs end with it, and what still lives when it
 * exits is killed.
 */

export interface ChildOptions {
  readonly command: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** A child that failed, with the last it said. */
export class ChildError extends Error {
  readonly code = "CHILD";
  override readonly name = "ChildError";
}

const living = new Set<Bun.Subprocess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** A process that writes one line for each line it is given, after a first one of its own. */
export class LineChild {
  /** What it said first. */
  readonly greeting: string;
  private readonly child: Running;

  private constructor(child: Running, greeting: string) {
    this.child = child;
    this.greeting = greeting;
  }

  /** Resolves when it is ready. @throws ChildError when it ends before. */
  static async start(options: ChildOptions): Promise<LineChild> {
    const child = start(options);
    return new LineChild(child, await child.nextLine());
  }

  /** @throws ChildError when it ends instead of answering. */
  ask(line: string): Promise<string> {
    this.child.process.stdin.write(`${line}\n`);
    this.child.process.stdin.flush();
    return this.child.nextLine();
  }

  async close(): Promise<void> {
    this.child.process.stdin.end();
    this.child.process.kill("SIGKILL");
    await this.child.process.exited;
  }
}

/** Runs a command to its end; resolves with its lines on standard output. @throws ChildError when it fails. */
export async function run(options: ChildOptions): Promise<string[]> {
  const child = start(options);
  child.process.stdin.end();
  const lines: string[] = [];
  for await (const line of child.lines) lines.push(line);
  if ((await child.process.exited) !== 0) throw await child.failure();
  return lines;
}

interface Running {
  readonly process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly lines: AsyncGenerator<string>;
  nextLine(): Promise<string>;
  failure(): Promise<ChildError>;
}

function start({ command, environment = {} }: ChildOptions): Running {
  let child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  try {
    child = Bun.spawn([...command], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, ...environment },
    });
  } catch (error) {
    throw new ChildError(`cannot start ${command[0]}: ${(error as Error).message}`);
  }
  living.add(child);
  child.exited.then(() => living.delete(child));
  const said = new Response(child.stderr).text();
  const lines = linesOf(child.stdout);
  const failure = async () => {
    const last = (await said).trim().split("\n").at(-1);
    const how = child.signalCode ?? `exit code ${await child.exited}`;
    return new ChildError(`${command.slice(0, 3).join(" ")} ended with ${how}${last ? `: ${last}` : ""}`);
  };
  const nextLine = async () => {
    const { value, done } = await lines.next();
    if (done) throw await failure();
    return value;
  };
  return { process: child, lines, nextLine, failure };
}

/** Lines as they come, without their ends. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== "") yield rest;
}
