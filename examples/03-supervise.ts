// A supervisor starts its children in order and starts them again when they crash. A child's ref, its name and the
// messages that wait for it survive; the message that made it crash does not.

import { Actor, child, NodeRuntime, type Ref, Supervisor } from "../runtime/index.ts";

class Parser extends Actor {
  #parsed = 0;

  override onStart(): void {
    console.log("a parser starts");
  }
  parse(text: string): void {
    JSON.parse(text);
    this.#parsed++;
  }
  async parsed(): Promise<number> {
    return this.#parsed;
  }
}

const node = new NodeRuntime({ name: "desk", log: () => {} }); // without a log of its own: crashes are logged
const supervisor = await node.spawn(Supervisor, [
  {
    strategy: "one_for_one",
    intensity: 3, // more than three restarts within five seconds, and the supervisor gives up
    periodMs: 5000,
    children: [child(Parser, [], { id: "parser", restart: "permanent" })],
  },
]);
const parser: Ref<Parser> = await supervisor.ask.child("parser");

parser.tell.parse('{"fine": true}');
parser.tell.parse("{oops"); // crashes it
parser.tell.parse("[1, 2, 3]"); // waits, and is handled after the restart

console.log(await parser.ask.parsed()); // 1: the state of the first life is gone, the ref is not

await node.close();
